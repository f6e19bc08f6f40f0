// A tool tried in the console as a key would call it, by a form or by JSON, and what came of it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkPage } from './browser.mjs'
import { furnish, startScene } from './scene.mjs'

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
    const form = page
      .locator('main form')
      .filter({ has: page.getByRole('button', { name: 'Call the tool' }) })
    const controls = await form.locator(':is(input:not([type=radio]), select, textarea)').count()
    assert.equal(controls, properties.length + 1, `${name}: a control for the key and for each property`)
  }
  assert.deepEqual(complaints, [])
  await context.close()
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
