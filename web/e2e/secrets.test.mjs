// What a page must not keep, and what it must say: a key that was closed, a host that isn't there.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { signedIn } from './signedIn.mjs'

const scene = signedIn()
const PAGES = ['/keys', '/overview', '/audit', '/statistics', '/connect']

test('a key that was closed is in no page, no storage and no later answer', async () => {
  const { page } = scene
  await page.goto('/keys/new')
  await page.fill('input[name=name]', 'laptop')
  await page.click('button[type=submit]')
  const key = await page.innerText('[data-test=plaintext-key]')
  assert.match(key, /^mpg_[\w-]{43}$/)

  const bodies = []
  page.on('response', (response) => {
    const isRead = !response.headers()['content-type']?.startsWith('text/event-stream') // Never ends.
    if (isRead) bodies.push(response.text().catch(() => ''))
  })
  await page.click('text=I stored it')
  await page.waitForURL('**/keys')
  await page.click('main a:text-is("laptop")')
  await page.waitForSelector('h1:has-text("laptop")')
  for (const path of [new URL(page.url()).pathname, ...PAGES]) {
    await page.goto(path)
    await page.waitForSelector('main h1')
    await page.waitForFunction(() => !document.querySelector('[aria-busy=true]'))
    const left = await page.evaluate(() =>
      [document.documentElement.outerHTML, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join(
        '\n',
      ),
    )
    assert.ok(!left.includes(key), `the key is left in ${path}`)
  }
  const answers = await Promise.all(bodies)
  assert.ok(
    answers.some((answer) => answer.includes('"laptop"')),
    'an answer speaks of the key',
  )
  assert.ok(!answers.some((answer) => answer.includes(key)), 'an answer repeats the key')
})

test('the connection test of a host that is not there marks the stage that failed', async () => {
  const { page } = scene
  await page.goto('/upstreams/new')
  await page.check('input[value=streamable-http]')
  await page.fill('input[name=name]', 'nowhere')
  await page.fill('input[name=url]', 'http://nowhere.invalid/mcp')
  await page.click('text=Test connection')
  await page.waitForSelector('text=It does not work yet')
  const failed = page.locator('[role=status] li', { has: page.locator('.text-danger') })
  assert.equal(await failed.count(), 1)
  assert.match(await failed.innerText(), /Resolve the name/)
  assert.deepEqual(scene.complaints, [])
})
