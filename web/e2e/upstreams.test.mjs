// Upstreams from a client's file and from a template, and many at once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPage } from './browser.mjs'
import { inEachLook, signedIn } from './signedIn.mjs'

const scene = signedIn()
const FILE = JSON.stringify({
  mcpServers: {
    one: { command: 'npx', args: ['-y', 'x'], env: { TOKEN: '${MISSING_TOKEN}' } },
    two: { url: 'https://mcp.example.invalid/mcp' },
  },
})

test('a file is looked at, chosen from, and imported', async () => {
  const { page } = scene
  await page.goto('/upstreams/import')
  await page.fill('textarea[name=file]', FILE)
  await page.click('text="Preview"')
  await page.waitForSelector('text=TOKEN=[secret] npx -y x')
  await page.waitForSelector('text=Has no value yet: MISSING_TOKEN')
  await page.click('text="Import 2"')
  await page.waitForSelector('text="To the upstreams"')
  await page.click('text="Preview"')
  await page.waitForSelector('text=This name is taken')
  assert.equal(await page.isDisabled('text="Import 0"'), true)
})

test('filters stand in the address, and what was chosen is deleted together', async () => {
  const { page } = scene
  await page.goto('/upstreams?transport=stdio')
  await page.waitForSelector('main li a:has-text("one")')
  assert.equal(await page.locator('main li a').count(), 1)
  await page.goto('/upstreams')
  await page.waitForSelector('main li a:has-text("two")')
  await page.check('text=Select all shown')
  await page.click('button:text-is("Disable")')
  await page.waitForSelector('text="Disabled: 2"')
  await page.check('text=Select all shown')
  await page.click('button:text-is("Delete")')
  await page.fill('[role=alertdialog] input', 'delete 2')
  await page.click('[role=alertdialog] button:text-is("Delete")')
  await page.waitForSelector('text=No upstreams yet')
})

test('a template fills in the form of an upstream', async () => {
  const { page } = scene
  await page.goto('/templates?search=brave')
  await page.click('text="Brave Search"')
  await page.fill('input[name=apiKey]', 'a secret')
  await page.click('text="Continue to the upstream"')
  await page.waitForURL('**/upstreams/new')
  assert.equal(await page.inputValue('input[name=name]'), 'Brave Search')
  assert.equal(await page.inputValue('input[name=command]'), 'npx')
})

test('the pages can be read', async () => {
  for (const path of ['/upstreams/import', '/templates', '/templates/brave-search']) {
    await inEachLook(scene.page, path, (what) => checkPage(scene.page, what))
  }
  assert.deepEqual(scene.complaints, [])
})
