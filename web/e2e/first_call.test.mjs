// From an empty data folder to the answer of a tool, as somebody who never saw the console: by what the pages offer, and
// in few clicks. Typing is none.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startGateway } from '../../src/tests/harness/gateway.mjs'
import { launch, openPage } from './browser.mjs'
import { served } from './served.mjs'
import { startUpstream, tool } from './upstream.mjs'

const CLICKS_MAX = 11 // Under twelve.

let gateway
let upstream
let front
let browser

before(async () => {
  const greet = tool('greet', 'Greets somebody', {
    type: 'object',
    properties: { who: { type: 'string' } },
    required: ['who'],
  })
  upstream = await startUpstream([greet])
  gateway = await startGateway({
    binary: process.env.MPG_BINARY,
    upstreams: [],
    tools: [],
    hasKey: false,
  })
  front = await served(gateway.origin)
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await front?.stop()
  await gateway?.stop()
  await upstream?.stop()
})

test('the first call of a tool takes fewer than twelve clicks', async () => {
  const { page, complaints } = await openPage(browser, front.origin)
  let clicks = 0
  const click = async (locator) => {
    await locator.click()
    clicks += 1
  }
  const button = (name) => page.getByRole('button', { name, exact: true })
  const link = (name) => page.getByRole('main').getByRole('link', { name, exact: true })

  await page.goto('/')
  await page.waitForURL('**/register')
  await page.fill('input[name=username]', 'ann')
  await page.fill('input[name=password]', 'a good password')
  await click(page.locator('button[type=submit]'))

  await page.waitForURL('**/overview')
  await click(link('Add upstream').first())
  await click(page.locator('label:has(input[value=streamable-http])'))
  await page.fill('input[name=name]', 'greeter')
  await page.fill('input[name=url]', upstream.url)
  await click(page.locator('button[type=submit]'))

  await page.waitForURL(/\/upstreams\/[0-9a-f-]{36}$/)
  await click(link('greet'))
  await click(link('Create a key'))
  await page.fill('input[name=name]', 'mine')
  await click(page.locator('button[type=submit]'))
  await click(page.getByText('I stored it'))

  await click(page.getByRole('navigation').getByRole('link', { name: 'Tools', exact: true }).first())
  await click(link('greet'))
  await page.fill('input[name=who]', 'Ann')
  await click(button('Call the tool'))
  const result = page.getByRole('region', { name: 'Result' })
  await result.getByText('Ann').first().waitFor()

  assert.ok(clicks <= CLICKS_MAX, `${clicks} clicks`)
  assert.deepEqual(complaints, [])
})
