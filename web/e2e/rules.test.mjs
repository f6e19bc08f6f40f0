// Rules in the console: written beside what the gateway says they would do, put in order, switched and deleted.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkPage } from './browser.mjs'
import { furnish, startScene, until } from './scene.mjs'

let scene
let key
let upstream

before(async () => {
  scene = await startScene()
  ;({ key, upstream } = await furnish(scene, 1))
})

after(() => scene?.stop())

const rulesOf = async (kind, owner = 'all') =>
  (await scene.ask(`/api/admin/rules/${kind}?${owner === 'all' ? 'owner=all' : `keyId=${owner}`}`)).items
const preview = (page) => page.locator('[data-test=preview]')
const counts = (page) => page.locator('[data-test=preview-counts]')

async function looked(t, walk, { refusals = [], ...look } = {}) {
  const opened = await scene.signedIn(look)
  await walk(opened.page)
  // What the gateway refuses, the browser reports as well: those tests say which answers they asked for.
  const complaints = opened.complaints.filter(
    (one) => !refusals.some((status) => one.includes(` ${status} `)),
  )
  assert.deepEqual(complaints, [], t.name)
  await opened.context.close()
}

test('an alias is tried on a name, previewed as the gateway says, and renames', (t) =>
  looked(t, async (page) => {
    await page.goto('/rules')
    await page.getByRole('heading', { name: 'No alias rules' }).waitFor()
    await checkPage(page, 'no rules')
    await page.getByRole('link', { name: 'New alias rule' }).first().click()
    await page.waitForURL('**/rules/new**')
    await page.fill('input[name=pattern]', 'test_(.*)_text')
    await page.getByRole('switch', { name: 'Regular expression' }).click()
    await page.fill('input[name=targetName]', 'say_$1')
    await page.fill('input[name=sample]', 'test_loud_text')
    await page.getByText('It matches.').waitFor()
    await page.getByText('say_loud', { exact: true }).waitFor()
    await page.fill('input[name=sample]', 'text')
    await page.getByText('It does not match.').waitFor()

    const row = preview(page).getByRole('listitem').filter({ hasText: 'say_simple' }).first()
    await row.getByText('this rule').waitFor()
    assert.match(await row.innerText(), /test_simple_text/)
    const owner = { type: 'all' }
    const aliases = [{ pattern: 'test_(.*)_text', isRegex: true, targetName: 'say_$1' }]
    const [stored, drafted] = await Promise.all([
      scene.tell('/api/admin/rules/preview', { limit: 1000 }),
      scene.tell('/api/admin/rules/preview', { owner, aliases, limit: 1000 }),
    ])
    const changed = drafted.items.filter(
      ({ id, exposedName }) => stored.items.find((item) => item.id === id).exposedName !== exposedName,
    )
    assert.ok(changed.length >= 1)
    await counts(page)
      .getByText(`${changed.length} changed · ${drafted.visible} of ${drafted.total} visible`)
      .waitFor()
    for (const { exposedName } of changed) await preview(page).getByText(exposedName).first().waitFor()
    assert.equal((await rulesOf('aliases')).length, 0, 'a preview stores nothing')
    await checkPage(page, 'a rule that is written')

    await page.getByRole('button', { name: 'Save rule' }).click()
    await page.waitForURL(/\/rules\?/)
    await page.locator('[data-test=rules]').getByText('test_(.*)_text').waitFor()
    await until('it is renamed', async () => {
      const { items } = await scene.ask('/api/admin/tools?search=say_simple')
      return items.some(({ exposedName }) => exposedName === 'say_simple')
    })
  }))

test('a filter of a key is previewed in that key’s view, and hides', (t) =>
  looked(t, async (page) => {
    await page.goto(`/rules/new?kind=filter&owner=key:${key.id}`)
    await page.fill('input[name=pattern]', 'test_.*_content')
    await page.getByRole('switch', { name: 'Regular expression' }).click()
    const row = preview(page).getByRole('listitem').filter({ hasText: 'test_image_content' }).first()
    await row.getByText('Hidden by a filter (Key: laptop):').waitFor()
    await row.getByText('this rule').waitFor()
    await page.getByText('Allow', { exact: true }).click()
    await row.waitFor({ state: 'detached' })
    await page.getByText('Deny', { exact: true }).click()
    await page.getByRole('button', { name: 'Save rule' }).click()
    await page.waitForURL(/\/rules\?/)
    const { items } = await scene.ask(`/api/admin/tools?keyId=${key.id}&limit=200`)
    assert.ok(!items.some(({ name }) => name === 'test_image_content'))
    assert.ok(items.some(({ name }) => name === 'test_error_handling'))
    const [rule] = await rulesOf('filters', key.id)
    assert.deepEqual([rule.action, rule.isRegex, rule.kinds.length], ['deny', true, 3])
  }))

test('a pattern that the gateway refuses is said at its field', (t) =>
  looked(
    t,
    async (page) => {
      await page.goto(`/rules/new?kind=filter&owner=upstream:${upstream.id}`)
      await page.getByRole('switch', { name: 'Regular expression' }).click()
      await page.fill('input[name=pattern]', 'a(?=b)')
      await page.fill('input[name=sample]', 'ab')
      await page.getByText('The gateway refuses this').waitFor()
      await page.getByRole('button', { name: 'Save rule' }).click()
      await page.locator('input[name=pattern][aria-invalid=true]').waitFor()
      page.on('dialog', (dialog) => void dialog.accept())
      await page.getByRole('link', { name: 'Rules' }).first().click()
      await page.waitForURL(/\/rules(\?|$)/)
    },
    { refusals: [422] },
  ))

test('rules are put in order by keys and by dragging, and that is taken back', (t) =>
  looked(t, async (page) => {
    for (const pattern of ['b', 'c', 'd']) {
      await scene.tell('/api/admin/rules/filters', { owner: { type: 'all' }, pattern, action: 'deny' })
    }
    const stored = async () => (await rulesOf('filters')).map(({ pattern }) => pattern).join('')
    const shown = async () =>
      (await page.locator('[data-test=rules]').locator('[data-order] a').allInnerTexts()).join('')
    await page.goto('/rules?kind=filter&owner=all')
    await page.getByText('Drag a rule by its handle').waitFor()
    assert.equal(await shown(), 'bcd')

    await page.getByRole('button', { name: /^Move b, place 1 of 3/ }).focus()
    await page.keyboard.press('ArrowDown')
    await until('moved by a key', async () => (await stored()) === 'cbd')
    await page.getByText('b is at place 2 of 3').waitFor({ state: 'attached' })
    const focused = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))
    assert.match(focused, /^Move b, place 2/, 'the focus goes along')
    await page.getByRole('button', { name: 'Move d up' }).click()
    await until('moved by a button', async () => (await stored()) === 'cdb')

    // Read anew, so that the only note is the one of the drag.
    await page.reload()
    const handle = await page.getByRole('button', { name: /^Move b, place 3/ }).boundingBox()
    const first = await page.getByRole('button', { name: /^Move c, place 1/ }).boundingBox()
    await page.mouse.move(handle.x + 20, handle.y + 20)
    await page.mouse.down()
    await page.mouse.move(handle.x + 20, first.y - 10, { steps: 5 })
    await until('it is seen before it is let go', async () => (await shown()) === 'bcd')
    assert.equal(await stored(), 'cdb')
    await page.mouse.up()
    await until('dragged', async () => (await stored()) === 'bcd')
    await page.getByRole('button', { name: 'Undo' }).click()
    await until('taken back', async () => (await stored()) === 'cdb')
  }))

test('a rule is switched off, changed and deleted', (t) =>
  looked(t, async (page) => {
    await page.goto('/rules?kind=filter&owner=all')
    await page.getByRole('switch', { name: 'Use the rule d' }).click()
    const one = async () => (await rulesOf('filters')).find(({ pattern }) => pattern.startsWith('d'))
    await until('it is off', async () => (await one()).enabled === false)
    await page.getByRole('link', { name: 'd', exact: true }).click()
    await page.waitForURL('**/rules/filter/**')
    await page.waitForFunction(() => document.querySelector('input[name=pattern]')?.value === 'd')
    await page.fill('input[name=pattern]', 'dd')
    await page.getByRole('button', { name: 'Save rule' }).click()
    await page.waitForURL(/\/rules\?/)
    assert.equal((await one()).pattern, 'dd')
    await page.getByRole('button', { name: 'Delete the rule dd' }).click()
    await page.getByRole('alertdialog').getByRole('button', { name: 'Delete rule' }).click()
    await until('it is gone', async () => (await one()) === undefined)
  }))

const SIZES = [
  { width: 1280, height: 900 },
  { width: 360, height: 780 },
]

for (const theme of ['light', 'dark']) {
  test(`every page of rules can be read, on any screen: ${theme}`, (t) =>
    looked(
      t,
      async (page) => {
        for (const path of [
          '/rules',
          '/rules?kind=filter&owner=all',
          '/rules/new?kind=filter',
          '/rules/new',
        ]) {
          await page.goto(path)
          await page.waitForSelector('main h1')
          await page.waitForFunction(() => !document.querySelector('main [aria-busy=true]'))
          for (const viewport of SIZES) {
            await page.setViewportSize(viewport)
            await checkPage(page, `${path} ${viewport.width} ${theme}`)
            if (process.env.PICTURES)
              await picture(page, `${path.replaceAll(/\W/g, '_')}-${viewport.width}-${theme}`)
          }
        }
      },
      { theme },
    ))
}

const picture = (page, name) =>
  page.screenshot({ path: `${process.env.PICTURES}/${name}.png`, fullPage: true })
