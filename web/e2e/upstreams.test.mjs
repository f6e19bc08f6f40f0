// Upstreams over every transport, from a client's file and from a template, many at once, and in order.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { startReference } from '../../src/tests/harness/reference.mjs'
import { checkPage } from './browser.mjs'
import { until } from './scene.mjs'
import { inEachLook, signedIn } from './signedIn.mjs'

const scene = signedIn()
const FILE = JSON.stringify({
  mcpServers: {
    one: { command: 'npx', args: ['-y', 'x'], env: { TOKEN: '${MISSING_TOKEN}' } },
    two: { url: 'https://mcp.example.invalid/mcp' },
  },
})

/** Asks the gateway about upstreams, as who is signed in. */
async function ask(path, options = {}) {
  const { token } = JSON.parse(await scene.page.evaluate(() => sessionStorage.getItem('session')))
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }
  const answer = await fetch(`${scene.gateway.origin}/api/admin/upstreams${path}`, { headers, ...options })
  assert.ok(answer.ok, `${path}: ${answer.status}`)
  return answer.json()
}

/** Upstreams that are never connected. */
async function add(names) {
  for (const name of names) {
    const connParams = { url: 'https://example.invalid/mcp' }
    const body = JSON.stringify({ name, transport: 'streamable-http', connParams, enabled: false })
    await ask('', { method: 'POST', body })
  }
}

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

test('what was imported is saved as a file of each client and of the registry', async () => {
  const { page } = scene
  await page.goto('/upstreams/import')
  for (const [format, name, inIt] of [
    ['mcp', 'mcp.json', /"mcpServers"[^]*"two"/],
    ['vscode', 'mcp.json', /"servers"[^]*"two"/],
    ['codex', 'config.toml', /\[mcp_servers\.two\]/],
    ['registry', 'server.json', /"remotes"[^]*mcp\.example\.invalid/],
  ]) {
    await page.locator('main select').selectOption(format)
    const [file] = await Promise.all([page.waitForEvent('download'), page.click('text="Download"')])
    assert.equal(file.suggestedFilename(), name)
    assert.match(await readFile(await file.path(), 'utf8'), inIt)
  }
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

test('a connection is tried over every transport', async () => {
  const { page, gateway } = scene
  const socket = gateway.origin.replace('http', 'ws')
  const urls = {
    'streamable-http': gateway.url,
    sse: `${gateway.origin}/mcp/sse`,
    websocket: `${socket}/mcp/ws`,
  }
  const stages = page.getByRole('status').getByRole('listitem')
  for (const [transport, url] of Object.entries(urls)) {
    await page.goto('/upstreams/new')
    await page.fill('input[name=name]', transport)
    await page.check(`input[name=transport][value=${transport}]`)
    await page.fill('input[name=url]', url)
    await page.fill('input[type=password]', gateway.key)
    await page.click('text="Test connection"')
    await page.waitForSelector('text=It works.')
    assert.equal(await stages.count(), await stages.getByLabel('Passed').count(), transport)
    await page.fill('input[name=url]', url.replace(/:\d+/, ':1'))
    await page.click('text="Test connection"')
    await page.waitForSelector('text=It does not work yet')
    assert.match(await stages.last().innerText(), /^Connect\n/, transport)
  }
  const { upstream } = await startReference({ transport: 'stdio', era: 'both' })
  await page.goto('/upstreams/new')
  await page.fill('input[name=name]', 'stdio')
  await page.check('input[name=transport][value=stdio]')
  await page.fill('input[name=command]', upstream.connParams.command)
  for (const [index, arg] of upstream.connParams.args.entries()) {
    await page.click('text="Add argument"')
    await page.getByLabel(`Arguments: value in row ${index + 1}`).fill(arg)
  }
  await page.click('text="Test connection"')
  await page.waitForSelector('text=It works.')
})

test('the list is put in order by dragging and by keys, once all of it is there', async () => {
  const { page } = scene
  await add(['a', 'b', 'c'])
  await page.goto('/upstreams')
  const names = () => page.locator('main li a').allInnerTexts()
  const handle = (name) => page.getByRole('button', { name: new RegExp(`^Move ${name}, place`) })
  const stored = async () => (await ask('?limit=100')).items.map(({ name }) => name).slice(0, 3)
  /** Until the gateway has it and the page shows what the gateway has. */
  const arranged = async (wanted) => {
    await until(`stored: ${wanted}`, async () => String(await stored()) === String(wanted))
    await until(`shown: ${wanted}`, async () => String((await names()).slice(0, 3)) === String(wanted))
  }
  await handle('c').focus()
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('ArrowUp')
  await page.getByText('c is at place 1 of 3').waitFor({ state: 'attached' })
  await arranged(['c', 'a', 'b'])
  assert.match(await page.locator(':focus').getAttribute('aria-label'), /^Move c, place 1 of 3/)

  const from = await handle('c').boundingBox()
  const to = await handle('b').boundingBox()
  await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2)
  await page.mouse.down()
  await page.mouse.move(to.x + to.width / 2, to.y + to.height, { steps: 5 })
  await page.mouse.up()
  await arranged(['a', 'b', 'c'])
  // Also where the list shows but some of them.
  await page.getByLabel('Search upstreams').fill('b')
  await until('searched', async () => String(await names()) === 'b')
  await page.getByRole('button', { name: 'Undo' }).last().click()
  await until('taken back', async () => String(await stored()) === 'c,a,b')
  await page.getByLabel('Search upstreams').fill('')
  await arranged(['c', 'a', 'b'])

  await page.goto('/upstreams?sort=name')
  await page.waitForSelector('text=To change the order, show all upstreams as arranged')
  assert.equal(await handle('a').count(), 0)

  await add(Array.from({ length: 50 }, (_, index) => `more ${index}`))
  await page.goto('/upstreams')
  await page.waitForSelector('main li a:text-is("more 46")')
  assert.deepEqual([await page.locator('main li a').count(), await handle('a').count()], [50, 0])
  await page.click('text="Show more"')
  await handle('more 49').waitFor()
  assert.equal(await page.locator('main li a').count(), 53)
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
  for (const path of [
    '/upstreams',
    '/upstreams/new',
    '/upstreams/import',
    '/templates',
    '/templates/brave-search',
  ]) {
    await inEachLook(scene.page, path, (what) => checkPage(scene.page, what))
  }
  assert.deepEqual(scene.complaints, [])
})
