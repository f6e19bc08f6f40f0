// Every list while it loads, when it fails, when the gateway is gone, and with nothing in it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkPage } from './browser.mjs'
import { startScene } from './scene.mjs'

const REQUEST_ID = '01890a5d-ac96-774b-bcce-b302099a8057'

/** The page of each list, where its rows come from, and whether it is empty on a new gateway. */
const LISTS = [
  ['/upstreams', /\/api\/admin\/upstreams(\?|$)/, true],
  ['/tools', /\/api\/admin\/tools(\?|$)/, true],
  ['/tools/prompts', /\/api\/admin\/prompts(\?|$)/, true],
  ['/tools/resources', /\/api\/admin\/resources(\?|$)/, true],
  ['/rules', /\/api\/admin\/rules\//, true],
  ['/keys', /\/api\/admin\/keys(\?|$)/, false],
  ['/xiaozhi', /\/api\/admin\/xiaozhi/, true],
  ['/statistics', /\/api\/admin\/stats\/calls(\?|$)/, true],
  ['/templates', /\/api\/admin\/templates(\?|$)/, false],
  ['/audit', /\/api\/admin\/audit(\?|$)/, false],
  ['/account', /\/api\/admin\/auth\/sessions(\?|$)/, false],
  ['/settings', /\/api\/admin\/settings(\?|$)/, false],
]

let scene
before(async () => {
  scene = await startScene()
})
after(() => scene?.stop())

/** Wherever it is offered; the pages of rules have a list of each kind. */
async function tryAgain(page) {
  const offers = page.locator('main').getByRole('button', { name: 'Try again' })
  for (let left = await offers.count(); left > 0; left -= 1) {
    await offers.first().click()
    await page.waitForFunction((left) => document.querySelectorAll('main [role=alert]').length < left, left)
  }
}

for (const [path, rows, isEmpty] of LISTS) {
  test(`${path} says that it loads, fails, is offline${isEmpty ? ', and empty' : ''}`, async () => {
    const { page, context } = await scene.signedIn()
    const alert = page.locator('main [role=alert]')

    let letThrough
    const held = new Promise((resolve) => (letThrough = resolve))
    await page.route(rows, async (route) => {
      await held
      await route.continue()
    })
    await page.goto(path)
    await page.waitForSelector('main [aria-busy=true]')
    await checkPage(page, `${path} while it loads`)
    letThrough()
    await page.waitForFunction(() => !document.querySelector('main [aria-busy=true]'))
    assert.equal(await alert.count(), 0)
    if (isEmpty) assert.ok(await page.locator('main .border-dashed h2').first().innerText())
    await page.unroute(rows)

    const problem = { type: 'about:blank', title: 'Internal', status: 500, code: 'INTERNAL' }
    await page.route(rows, (route) =>
      route.fulfill({
        status: 500,
        contentType: 'application/problem+json',
        headers: { 'x-request-id': REQUEST_ID },
        body: JSON.stringify({ ...problem, requestId: REQUEST_ID }),
      }),
    )
    await page.reload()
    await alert.first().waitFor()
    assert.match(await alert.first().innerText(), new RegExp(REQUEST_ID))
    await checkPage(page, `${path} when it failed`)
    await page.unroute(rows)
    await tryAgain(page)

    await page.route(rows, (route) => route.abort('connectionrefused'))
    await page.reload()
    await alert.first().waitFor()
    assert.match(await alert.first().innerText(), /cannot be reached/)
    await page.unroute(rows)
    await tryAgain(page)
    await context.close()
  })
}
