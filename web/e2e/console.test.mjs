// The way of somebody who starts the gateway for the first time, in a real browser, against the real binary:
// register, add an upstream, make a key, call with it. MPG_BINARY names the binary; the console is embedded in it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { listTools, startGateway } from '../../src/tests/harness/gateway.mjs'
import { startReference } from '../../src/tests/harness/reference.mjs'
import { checkPage, launch, openPage } from './browser.mjs'
import { served } from './served.mjs'

const USERNAME = 'ann'
const PASSWORD = 'a good password'
const SIZES = { desk: { width: 1280, height: 900 }, phone: { width: 360, height: 780 } }

let gateway
let front
let hasFailed = false
let reference
let browser
let page
let context
let complaints

/** A step on one way: after one that failed, the rest would only wait for what can't come. */
function step(name, walk) {
  test(name, async (t) => {
    if (hasFailed) return t.skip('an earlier step failed')
    try {
      await walk()
    } catch (error) {
      hasFailed = true
      throw error
    }
  })
}

before(async () => {
  reference = await startReference({ transport: 'http', era: 'both' })
  gateway = await startGateway({ binary: process.env.MPG_BINARY, upstreams: [], tools: [] })
  front = await served(gateway.origin)
  browser = await launch()
  ;({ page, context, complaints } = await openPage(browser, front.origin))
})

after(async () => {
  await browser?.close()
  await front?.stop()
  await gateway?.stop()
  await reference?.stop()
})

step('the first visitor registers', async () => {
  await page.goto('/')
  await page.waitForURL('**/register')
  await checkPage(page, 'registration')
  await page.fill('input[name=username]', USERNAME)
  await page.fill('input[name=password]', 'short')
  assert.equal(await page.isDisabled('button[type=submit]'), true)
  await page.fill('input[name=password]', PASSWORD)
  await page.click('button[type=submit]')
  await page.waitForURL('**/overview')
})

step('a second visitor is asked to sign in, and is told when the password is wrong', async () => {
  const second = await openPage(browser, front.origin)
  await second.page.goto('/register')
  await second.page.waitForURL('**/login**')
  await checkPage(second.page, 'login')
  await second.page.fill('input[name=username]', USERNAME)
  await second.page.fill('input[name=password]', 'not the password')
  await second.page.click('button[type=submit]')
  await second.page.waitForSelector('[role=alert]')
  await second.page.fill('input[name=password]', PASSWORD)
  await second.page.click('button[type=submit]')
  await second.page.waitForURL('**/overview')
  assert.deepEqual(second.complaints, [])
  await second.context.close()
})

step('an upstream over HTTP is tried, added, and becomes available', async () => {
  await page.goto('/upstreams/new')
  await page.check('input[value=streamable-http]')
  await page.fill('input[name=name]', 'over http')
  await page.fill('input[name=url]', 'http://127.0.0.1:1/mcp')
  await page.click('text=Test connection')
  await page.waitForSelector('text=It does not work yet')
  await page.fill('input[name=url]', reference.url)
  await page.click('text=Test connection')
  await page.waitForSelector('text=It works.')
  await page.click('button[type=submit]')
  await page.waitForURL(/\/upstreams\/[0-9a-f-]{36}$/)
  await page.waitForSelector('header >> text="Available"')
  await page.waitForSelector('text=test_simple_text')
})

step('an upstream over stdio is added with arguments in rows', async () => {
  const { upstream } = await startReference({ transport: 'stdio', era: 'legacy' })
  await page.goto('/upstreams/new')
  await page.fill('input[name=name]', 'over stdio')
  await page.fill('input[name=command]', upstream.connParams.command)
  await page.click('text=Add argument')
  for (const argument of upstream.connParams.args) {
    await page.keyboard.type(argument)
    await page.keyboard.press('Enter')
  }
  await page
    .getByLabel(/remove row/)
    .last()
    .click()
  await page.click('button[type=submit]')
  await page.waitForURL(/\/upstreams\/[0-9a-f-]{36}$/)
  await page.waitForSelector('header >> text="Available"')
})

step('an upstream is renamed, and a name that is taken is refused', async () => {
  await page.click('text=Edit upstream')
  await page.waitForFunction(() => document.querySelector('input[name=name]')?.value === 'over stdio')
  await page.fill('input[name=name]', 'over http')
  await page.click('button[type=submit]')
  await page.waitForSelector('[role=alert]')
  await page.fill('input[name=name]', 'by command')
  await page.click('button[type=submit]')
  await page.waitForSelector('h1:has-text("by command")')
})

step('a key is shown once, works, and is nowhere afterwards', async () => {
  await page.goto('/keys/new')
  await page.fill('input[name=name]', 'laptop')
  await page.click('button[type=submit]')
  const key = await page.innerText('[data-test=plaintext-key]')
  assert.match(key, /^mpg_[\w-]{43}$/)
  assert.ok((await listTools({ url: gateway.url, key })).includes('test_simple_text'))
  await page.click('text=I stored it')
  await page.waitForSelector('text=laptop')
  const left = await page.evaluate(() => {
    const stores = [localStorage, sessionStorage].map((store) => JSON.stringify(store))
    return [document.documentElement.outerHTML, ...stores].join('\n')
  })
  assert.ok(!left.includes(key))
})

for (const [size, viewport] of Object.entries(SIZES)) {
  for (const theme of ['light', 'dark']) {
    for (const locale of ['en', 'zh-CN']) {
      step(`every page can be read: ${size}, ${theme}, ${locale}`, async () => {
        await page.setViewportSize(viewport)
        await page.evaluate(
          ([theme, locale]) => {
            localStorage.setItem('theme', theme)
            localStorage.setItem('locale', locale)
          },
          [theme, locale],
        )
        await page.goto('/upstreams')
        await page.waitForSelector('main li a')
        const detail = await page.getAttribute('main li a', 'href')
        for (const path of [
          '/upstreams',
          detail,
          `${detail}/edit`,
          '/upstreams/new',
          '/tools',
          '/keys',
          '/keys/new',
        ]) {
          await page.goto(path)
          await page.waitForSelector('main h1')
          await page.waitForFunction(() => !document.querySelector('[aria-busy=true]'))
          await checkPage(page, path)
        }
      })
    }
  }
}

step('a session that ends asks for the password and loses nothing', async () => {
  await page.setViewportSize(SIZES.desk)
  await page.evaluate(() => localStorage.setItem('locale', 'en'))
  await page.goto('/upstreams/new')
  await page.fill('input[name=name]', 'half typed')
  const { token } = JSON.parse(await page.evaluate(() => sessionStorage.getItem('session')))
  const ended = await fetch(`${gateway.origin}/api/admin/auth/logout`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}` },
  })
  assert.equal(ended.ok, true)
  await page.fill('input[name=command]', 'true')
  await page.click('button[type=submit]')
  await page.waitForSelector('[role=dialog]')
  await page.fill('[role=dialog] input[name=password]', PASSWORD)
  await page.click('[role=dialog] button[type=submit]')
  await page.waitForSelector('[role=dialog]', { state: 'detached' })
  assert.equal(await page.inputValue('input[name=name]'), 'half typed')
})

step('no page broke its policy, threw, or asked anybody else', async () => {
  assert.deepEqual(complaints, [])
  await context.close()
})
