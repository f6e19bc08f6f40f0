// The main path without a mouse: whatever has the focus is in sight, and says that it has it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startGateway } from '../../src/tests/harness/gateway.mjs'
import { launch, openPage } from './browser.mjs'
import { served } from './served.mjs'
import { startUpstream, tool } from './upstream.mjs'

const TABS_MAX = 80 // More than any of these pages has stops.
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

/** In the page: what is wrong with how the focused element looks. A control may leave it to its label to show. */
function lookOf(element) {
  const shown = [element, element.closest('label')].filter(Boolean).map((part) => ({
    style: getComputedStyle(part),
    box: part.getBoundingClientRect(),
  }))
  const isOutlined = ({ style }) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
  const isInSight = ({ box }) =>
    box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.left < innerWidth
  return shown.some((part) => isOutlined(part) && isInSight(part)) ? '' : element.outerHTML.slice(0, 300)
}

test('the main path is walked with the keyboard alone', async () => {
  const { page, context, complaints } = await openPage(browser, front.origin)
  const press = (key) => page.keyboard.press(key)
  const type = (text) => page.keyboard.type(text)

  /** Tabs on, looking at each stop, until `target` has the focus. A form's first field has it from the start. */
  async function reach(target) {
    await target.waitFor()
    for (let tabs = 0; tabs < TABS_MAX; tabs += 1) {
      const focused = page.locator(':focus')
      // None: past the last stop, the browser's own.
      if ((await focused.count()) > 0) {
        assert.equal(await focused.evaluate(lookOf), '', 'a stop that does not show its focus')
        if (await target.evaluate((element) => element === document.activeElement)) return
      }
      await press('Tab')
    }
    assert.fail(`no Tab leads to ${target}`)
  }
  const field = (name) => page.locator(`form input[name=${name}]`)
  const link = (name) => page.getByRole('main').getByRole('link', { name, exact: true }).last()
  const button = (name) => page.getByRole('button', { name, exact: true })

  await page.goto('/')
  await page.waitForURL('**/register')
  await reach(field('username'))
  await type('ann')
  await reach(field('password'))
  await type('a good password')
  await reach(button('Create account'))
  await press('Shift+Tab')
  await press('Tab')
  await press('Space')
  await page.waitForURL('**/overview')

  await reach(link('Add upstream'))
  await press('Enter')
  await page.waitForURL('**/upstreams/new')
  await reach(field('name'))
  await type('made up')
  await press('Tab')
  await press('ArrowDown')
  await reach(field('url'))
  await type(upstream.url)
  await reach(button('Save'))
  await press('Space')

  await reach(link('weather'))
  await press('Enter')
  await reach(link('Create a key'))
  await press('Enter')
  await reach(field('name'))
  await type('mine')
  await reach(button('Create key'))
  await press('Enter')
  await reach(link('I stored it'))
  await press('Enter')

  await reach(field('city'))
  await type('Ulm')
  await reach(button('Call the tool'))
  await press('Enter')
  const result = page.getByRole('region', { name: 'Result' })
  await result.getByText('Done').waitFor()
  assert.deepEqual(complaints, [])
  await context.close()
})
