// A tool tried in the console as a key would call it, by a form or by JSON, and what came of it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkPage } from './browser.mjs'
import { furnish, startScene, until } from './scene.mjs'
import { startUpstream, tool } from './upstream.mjs'

const ORDER = {
  type: 'object',
  required: ['buyer', 'lines', 'paid'],
  properties: {
    buyer: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } },
    lines: {
      type: 'array',
      items: {
        type: 'object',
        required: ['article'],
        properties: { article: { type: 'string' }, count: { type: 'integer', minimum: 1 } },
      },
    },
    labels: { type: 'object', additionalProperties: { type: 'string' } },
    paid: {
      oneOf: [
        { title: 'Card', type: 'object', required: ['card'], properties: { card: { type: 'string' } } },
        { title: 'Later', type: 'object', required: ['days'], properties: { days: { type: 'integer' } } },
      ],
    },
    note: { type: ['string', 'null'] },
  },
}

let scene
let tools

before(async () => {
  scene = await startScene()
  await furnish(scene, 1)
  const { items } = await scene.ask('/api/admin/tools?limit=200')
  tools = Object.fromEntries(items.map((tool) => [tool.name, tool.id]))
})

after(() => scene?.stop())

test('a tool is found, called as a key, and says what it answered', async () => {
  const { page, context, complaints } = await scene.signedIn()
  await page.goto('/tools')
  await page.getByRole('searchbox').fill('simple_text')
  await page.getByRole('link', { name: 'test_simple_text', exact: true }).click()
  await page.waitForURL(`**/tools/${tools.test_simple_text}`)
  await page.getByRole('button', { name: 'Call the tool' }).click()
  const result = page.getByRole('region', { name: 'Result' })
  await result.getByText('Done').waitFor()
  const { calls } = await scene.ask('/api/admin/stats/summary')
  assert.ok(calls >= 1)
  await checkPage(page, 'a tool that was tried')
  assert.deepEqual(complaints, [])
  await context.close()
})

test('what was filled into the form goes along to JSON, and JSON that is none is said', async () => {
  const { page, context, complaints } = await scene.signedIn()
  await page.goto(`/tools/${tools.test_simple_text}`)
  await page.getByText('JSON', { exact: true }).click()
  await page.getByLabel('Arguments', { exact: true }).fill('[')
  await page.getByRole('button', { name: 'Call the tool' }).click()
  await page.getByText('This is not a JSON object.').waitFor()
  await page.getByLabel('Arguments', { exact: true }).fill('{}')
  await page.getByRole('button', { name: 'Call the tool' }).click()
  await page.getByRole('region', { name: 'Result' }).waitFor()
  assert.deepEqual(complaints, [])
  await context.close()
})

test('every tool of the reference server has a page without a blank', async () => {
  const { page, context, complaints } = await scene.signedIn()
  for (const [name, id] of Object.entries(tools)) {
    await page.goto(`/tools/${id}`)
    await page.getByRole('button', { name: 'Call the tool' }).waitFor()
    const { stored } = await scene.ask(`/api/admin/tools/${id}`)
    const properties = Object.keys(stored.definition.inputSchema?.properties ?? {})
    const form = page.locator('[data-test=arguments]')
    const shown = await form.locator('[data-field]:not([data-field] [data-field])').count()
    // One whose arguments are a choice as a whole has that choice, and the properties within it.
    const isChoice = await form.getByLabel('Kind of Arguments').count()
    assert.equal(shown, isChoice ? 1 : properties.length, `${name}: a field for each property`)
  }
  assert.deepEqual(complaints, [])
  await context.close()
})

test('objects, lists, maps and choices within one another are filled in and sent as they are', async () => {
  const upstream = await startUpstream([tool('order', 'Orders something', ORDER)])
  try {
    const params = { name: 'shop', transport: 'streamable-http', connParams: { url: upstream.url } }
    const { id } = await scene.tell('/api/admin/upstreams', params)
    const order = await until('the tool is there', async () => {
      const { items } = await scene.ask(`/api/admin/tools?upstreamId=${id}`)
      return items[0]
    })
    const { page, context, complaints } = await scene.signedIn()
    await page.goto(`/tools/${order.id}`)
    const call = page.getByRole('button', { name: 'Call the tool' })
    const field = (name, within = page) => within.getByRole('textbox', { name, exact: true })
    await call.click()
    await page.getByText('have to be mended').waitFor()
    await field('name').fill('Ann')
    await page.getByRole('button', { name: 'Add to lines' }).click()
    await page.getByRole('button', { name: 'Add to lines' }).click()
    const [first, second] = [1, 2].map((number) =>
      page.getByRole('group', { name: `lines ${number}`, exact: true }),
    )
    await field('article', first).fill('pen')
    await field('count (optional)', first).fill('3')
    await field('article', second).fill('ink')
    await page.getByRole('button', { name: 'Move lines 2 up' }).click()
    await page.getByRole('switch', { name: 'Give labels' }).click()
    await page.getByRole('button', { name: 'Add an entry' }).click()
    await field('Name').fill('colour')
    await field('colour').fill('blue')
    await page.getByLabel('Kind of paid').selectOption({ label: 'Later' })
    await field('days').fill('30')
    await page.getByRole('switch', { name: 'note is null' }).click()
    await checkPage(page, 'a form of objects and lists')
    const expected = {
      buyer: { name: 'Ann' },
      lines: [{ article: 'ink' }, { article: 'pen', count: 3 }],
      paid: { days: 30 },
      labels: { colour: 'blue' },
      note: null,
    }
    await page.getByText('JSON', { exact: true }).click()
    const json = page.getByLabel('Arguments', { exact: true })
    assert.deepEqual(JSON.parse(await json.inputValue()), expected)
    await json.fill(JSON.stringify({ ...expected, note: 'soon' }))
    await page.getByText('Form', { exact: true }).click()
    assert.equal(await field('note (optional)').inputValue(), 'soon')
    await call.click()
    const result = page.getByRole('region', { name: 'Result' })
    await result.getByText('"soon"').first().waitFor()
    assert.deepEqual(complaints, [])
    await context.close()
  } finally {
    await upstream.stop()
  }
})

test('a key that is switched off is not offered, whatever other pages ask about keys', async () => {
  const off = await scene.tell('/api/admin/keys', { name: 'switched off' })
  await scene.tell(`/api/admin/keys/${off.id}/disable`, {})
  const { page, context } = await scene.signedIn()
  await page.goto('/statistics')
  await page.getByLabel('Key', { exact: true }).getByText('switched off').waitFor({ state: 'attached' })
  // Within the page, so that what it knows already is at hand.
  await page.getByRole('link', { name: 'Tools', exact: true }).first().click()
  await page.getByRole('searchbox').fill('test_simple_text')
  await page.getByRole('link', { name: 'test_simple_text', exact: true }).click()
  await page.getByRole('button', { name: 'Call the tool' }).waitFor()
  const offered = await page.getByLabel('As key').locator('option').allTextContents()
  assert.deepEqual(
    offered.filter((name) => name === 'switched off'),
    [],
  )
  assert.ok(offered.includes('laptop'), offered.join())
  await context.close()
})
