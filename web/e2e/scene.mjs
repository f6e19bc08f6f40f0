// A gateway with an admin signed in, an upstream, a key, and calls that went well and badly: what pages show.
import assert from 'node:assert/strict'
import { startGateway } from '../../src/tests/harness/gateway.mjs'
import { startReference } from '../../src/tests/harness/reference.mjs'
import { launch, openPage } from './browser.mjs'
import { served } from './served.mjs'

const ADMIN = { username: 'ann', password: 'a good password' }

export async function startScene() {
  const reference = await startReference({ transport: 'http', era: 'both' })
  const gateway = await startGateway({ binary: process.env.MPG_BINARY, upstreams: [], tools: [] })
  const front = await served(gateway.origin)
  const browser = await launch()
  const json = { 'Content-Type': 'application/json' }
  const post = (path, body, headers = {}) =>
    fetch(gateway.origin + path, {
      method: 'POST',
      headers: { ...json, ...headers },
      body: JSON.stringify(body),
    })
  assert.equal((await post('/api/auth/register', ADMIN)).status, 201)
  const { token, username } = await (await post('/api/auth/login', ADMIN)).json()
  const admin = { Authorization: `Bearer ${token}` }

  /** What the REST API answers to a signed in admin. */
  const ask = async (path) => (await fetch(gateway.origin + path, { headers: admin })).json()
  const tell = async (path, body) => {
    const answer = await post(path, body, admin)
    assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`)
    return answer.json()
  }

  /** A page of somebody who is signed in, in one theme and language. */
  async function signedIn({ theme = 'light', locale = 'en', ...options } = {}) {
    const opened = await openPage(browser, front.origin, options)
    opened.page.on('console', (message) => {
      if (message.type() === 'error') opened.complaints.push(`console: ${message.text()}`)
    })
    await opened.context.addInitScript(
      ([session, theme, locale]) => {
        if (!sessionStorage.getItem('session')) sessionStorage.setItem('session', session)
        localStorage.setItem('theme', theme)
        localStorage.setItem('locale', locale)
      },
      [JSON.stringify({ token, username }), theme, locale],
    )
    return opened
  }

  async function stop() {
    await browser.close()
    await front.stop()
    await gateway.stop()
    await reference.stop()
  }
  return { gateway, reference, browser, token, ask, tell, signedIn, stop }
}

/** Asks until it holds; what the gateway does on its own takes its time. */
export async function until(what, holds, deadlineMs = 15_000) {
  const end = Date.now() + deadlineMs
  for (;;) {
    const value = await holds()
    if (value) return value
    assert.ok(Date.now() < end, what)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** An upstream that is there, one that isn't, a key, and calls by it. */
export async function furnish({ reference, ask, tell }, calls) {
  const upstream = await tell('/api/admin/upstreams', {
    name: 'reference',
    transport: 'streamable-http',
    connParams: { url: reference.url },
  })
  await tell('/api/admin/upstreams', {
    name: 'nobody',
    transport: 'streamable-http',
    connParams: { url: 'http://127.0.0.1:1/mcp' },
  })
  const key = await tell('/api/admin/keys', { name: 'laptop' })
  const tool = await until('the tools are there', async () => {
    const { items } = await ask(`/api/admin/tools?upstreamId=${upstream.id}`)
    return items.find(({ name }) => name === 'test_simple_text')
  })
  return { upstream, tool, key, calls: await call({ ask, tell }, key, calls) }
}

/** Calls as the key does; answers how many are on record. */
export async function call({ ask, tell }, key, count) {
  for (let number = 0; number < count; number += 1) {
    await tell('/api/admin/tools/call', { keyId: key.id, name: 'test_simple_text', arguments: {} })
  }
  return until('the calls are on record', async () => {
    const { calls } = await ask('/api/admin/stats/summary')
    return calls >= count && calls
  })
}
