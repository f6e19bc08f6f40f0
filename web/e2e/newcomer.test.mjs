// From an empty data folder to a tool's answer: by fewer than a dozen clicks.
// A form's first field has the focus when its page opens; each other is clicked, and Enter in the last sends it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startGateway } from '../../src/tests/harness/gateway.mjs'
import { launch, openPage } from './browser.mjs'
import { served } from './served.mjs'
import { startUpstream, tool } from './upstream.mjs'

const CLICKS_MAX = 11

const SCHEMA = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }

let upstream
let gateway
let front
let browser

before(async () => {
  upstream = await startUpstream([tool('weather', 'The weather of a city', SCHEMA)])
  gateway = await startGateway({ binary: process.env.MPG_BINARY, upstreams: [], tools: [], isKeyless: true })
  front = await served(gateway.origin)
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await front?.stop()
  await gateway?.stop()
  await upstream?.stop()
})

test('a newcomer sees a tool answer after fewer than twelve clicks', async () => {
  const { page, context, complaints } = await openPage(browser, front.origin)
  const clicked = []
  const click = async (target) => {
    await target.click()
    clicked.push(String(target))
  }
  const follow = (name) => click(page.getByRole('link', { name, exact: true }).last())
  const into = (name) => click(page.locator(`form input[name=${name}]`))
  const ready = (name) => page.locator(`form input[name=${name}]:focus`).waitFor()
  const type = (text) => page.keyboard.type(text)

  await page.goto('/')
  await page.waitForURL('**/register')
  await ready('username')
  await type('ann')
  await into('password')
  await type('a good password')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/overview')

  await follow('Add upstream')
  await page.waitForURL('**/upstreams/new')
  await ready('name')
  await type('made up')
  await click(page.locator('label', { has: page.locator('input[value=streamable-http]') }))
  await into('url')
  await type(upstream.url)
  await page.keyboard.press('Enter')

  await follow('weather')
  await follow('Create a key')
  await ready('name')
  await type('mine')
  await page.keyboard.press('Enter')
  await follow('I stored it')

  await page.waitForURL('**/tools/*')
  await into('city')
  await type('Ulm')
  await page.keyboard.press('Enter')
  const result = page.getByRole('region', { name: 'Result' })
  await result.getByText('Done').waitFor()
  await result.getByText('Ulm').first().waitFor()
  assert.ok(clicked.length <= CLICKS_MAX, `${clicked.length} clicks:\n${clicked.join('\n')}`)
  assert.deepEqual(complaints, [])
  await context.close()
})
