// A key is edited and rotated; connecting with it turns green; XiaoZhi endpoints act as it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listTools } from '../../src/tests/harness/gateway.mjs'
import { checkPage } from './browser.mjs'
import { inEachLook, signedIn } from './signedIn.mjs'

const scene = signedIn()
let detail

test('a rotated key works, and is nowhere afterwards', async () => {
  const { page, gateway } = scene
  await page.goto('/keys')
  await page.click('main a:text-is("tests")')
  await page.waitForSelector('text="Rotate"')
  detail = new URL(page.url()).pathname
  await page.click('button:text-is("Rotate")')
  const key = await page.innerText('[data-test=plaintext-key]')
  assert.deepEqual(await listTools({ url: gateway.url, key }), [])
  await page.click('text=I stored it')
  await page.waitForURL('**/keys')
  const left = await page.evaluate(() =>
    [
      document.documentElement.outerHTML,
      ...[localStorage, sessionStorage].map((s) => JSON.stringify(s)),
    ].join(),
  )
  assert.ok(!left.includes(key))
})

test('a key is given a quota', async () => {
  const { page } = scene
  await page.goto(`${detail}/edit`)
  await page.waitForFunction(() => document.querySelector('input[name=name]')?.value === 'tests')
  await page.getByLabel('Calls per day').fill('500')
  await page.click('button[type=submit]')
  await page.waitForSelector('text=of 500')
})

test('on its page a key is switched off and on, leads to its rules, and is deleted', async () => {
  const { page, gateway } = scene
  await page.goto('/keys/new')
  await page.fill('input[name=name]', 'passing')
  await page.click('button[type=submit]')
  const key = await page.innerText('[data-test=plaintext-key]')
  await page.click('text=I stored it')
  await page.click('main a:text-is("passing")')
  await page.waitForURL(/\/keys\/[0-9a-f-]{36}$/)
  const own = new URL(page.url()).pathname
  const turn = page.getByRole('switch', { name: 'passing is enabled' })
  await turn.click()
  await page.waitForSelector('[role=switch][aria-checked=false]')
  await assert.rejects(listTools({ url: gateway.url, key }), /answered 401/)
  await turn.click()
  await page.waitForSelector('[role=switch][aria-checked=true]')
  assert.deepEqual(await listTools({ url: gateway.url, key }), [])
  await page.getByRole('link', { name: 'Rules of this key' }).click()
  await page.waitForURL((url) => url.searchParams.get('owner') === `key:${own.split('/').at(-1)}`)
  await page.goto(own)
  await page.getByRole('button', { name: 'Delete', exact: true }).click()
  await page.getByRole('alertdialog').getByRole('button', { name: 'Delete', exact: true }).click()
  await page.waitForURL('**/keys')
  await page.waitForSelector('text=passing was deleted')
  await assert.rejects(listTools({ url: gateway.url, key }), /answered 401/)
})

test('the snippet of each client parses, and the first call turns the page green', async () => {
  const { page, gateway } = scene
  await page.goto('/connect?client=claude-code.streamable-http')
  const { mcpServers } = JSON.parse(await page.innerText('[data-test=snippet]'))
  assert.equal(Object.values(mcpServers)[0].type, 'http')
  await page.waitForSelector('text=Waiting for the first call')
  await listTools({ url: gateway.url, key: gateway.key })
  await page.waitForSelector('text=The key was used: it works.', { timeout: 30_000 })
})

test('an endpoint of XiaoZhi shows no token, and says why it is not connected', async () => {
  const { page } = scene
  await page.goto('/xiaozhi/new')
  await page.fill('input[name=name]', 'speaker')
  await page.fill('input[name=url]', 'ws://127.0.0.1:9/mcp/?token=abc.secret.def')
  await page.getByLabel('Acts as').selectOption({ label: 'tests' })
  await page.click('button[type=submit]')
  await page.waitForSelector('h2:has-text("speaker")')
  assert.ok(!(await page.content()).includes('abc.secret.def'))
})

test('the pages can be read', async () => {
  for (const path of ['/keys', detail, '/connect', '/xiaozhi', '/xiaozhi/new']) {
    await inEachLook(scene.page, path, (what) => checkPage(scene.page, what))
  }
  assert.deepEqual(scene.complaints, [])
})
