// What a tool answered, shown as what it is and never as markup; the same call by curl; and calls of before.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { checkPage } from './browser.mjs'
import { startScene, until } from './scene.mjs'
import { startUpstream, tool } from './upstream.mjs'

const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const HOSTILE = '<img src=x onerror="window.complain(1)"><script>window.complain(2)</script>'
// Half a second of nothing, as the shortest WAV there is.
const SILENCE = `UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=`
const GALLERY = {
  content: [
    { type: 'text', text: HOSTILE },
    { type: 'image', data: PIXEL, mimeType: 'image/png' },
    { type: 'image', data: PIXEL, mimeType: 'text/html' },
    { type: 'audio', data: SILENCE, mimeType: 'audio/wav' },
    { type: 'resource_link', uri: 'https://example.com/report', name: 'report', title: HOSTILE },
    { type: 'resource_link', uri: 'javascript:alert(1)', name: 'trap' },
    { type: 'resource', resource: { uri: 'file:///notes.txt', text: 'some notes' } },
    { type: 'resource', resource: { uri: 'file:///bytes.bin', blob: 'AAH/' } },
    { type: 'hologram', size: 3 },
  ],
  structuredContent: { answer: 42 },
}

let scene
let upstream
let key
let tools

before(async () => {
  scene = await startScene()
  upstream = await startUpstream([
    tool('gallery', 'Answers with everything', undefined, { answer: GALLERY }),
    tool('fails', 'Fails', undefined, { answer: { content: [{ type: 'text', text: 'no' }], isError: true } }),
    tool('say', 'Says it again', { type: 'object', properties: { text: { type: 'string' } } }),
  ])
  const params = { name: 'made', transport: 'streamable-http', connParams: { url: upstream.url } }
  const { id } = await scene.tell('/api/admin/upstreams', params)
  key = await scene.tell('/api/admin/keys', { name: 'laptop' })
  tools = await until('the tools are there', async () => {
    const { items } = await scene.ask(`/api/admin/tools?upstreamId=${id}`)
    return items.length === 3 && Object.fromEntries(items.map((tool) => [tool.name, tool.id]))
  })
})

after(async () => {
  await scene?.stop()
  await upstream?.stop()
})

const callTool = (page) => page.getByRole('button', { name: 'Call the tool' }).click()
const resultOf = (page) => page.getByRole('region', { name: 'Result' })

test('each piece of a result is shown as what it is, and none as markup', async () => {
  const { page, context, complaints } = await scene.signedIn()
  await page.goto(`/tools/${tools.gallery}`)
  await callTool(page)
  const result = resultOf(page)
  await result.getByText('Done').waitFor()
  assert.equal(await result.getByText(HOSTILE).count(), 2, 'a text and a title')
  const picture = result.getByRole('img', { name: 'A picture' })
  assert.equal(await picture.count(), 1)
  assert.ok(await picture.evaluate((image) => image.complete && image.naturalWidth === 1))
  assert.equal(await result.locator('audio').count(), 1)
  assert.deepEqual(
    await result.getByRole('link').evaluateAll((links) => links.map(({ href, rel }) => [href, rel])),
    [['https://example.com/report', 'noopener noreferrer']],
  )
  await result.getByText('some notes', { exact: true }).waitFor()
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    result.getByRole('button', { name: 'Save (3 bytes)' }).click(),
  ])
  assert.equal(download.suggestedFilename(), 'bytes.bin')
  assert.deepEqual([...(await readFile(await download.path()))], [0, 1, 255])
  assert.match(await result.innerText(), /hologram[\s\S]*"answer": 42/)
  await checkPage(page, 'a result of everything')
  assert.deepEqual(complaints, [])
  await context.close()
})

test('a tool that fails says so', async () => {
  const { page, context } = await scene.signedIn()
  await page.goto(`/tools/${tools.fails}`)
  await callTool(page)
  await resultOf(page).getByText('Failed').waitFor()
  await context.close()
})

test('what is copied as curl is the same call', async () => {
  const { page, context, complaints } = await scene.signedIn({
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  const typed = `it's "so" $(id) 今天`
  await page.goto(`/tools/${tools.say}`)
  await page.getByRole('textbox', { name: 'text (optional)' }).fill(typed)
  await page.getByRole('button', { name: 'Copy as curl' }).click()
  await page.getByText('Copied').waitFor()
  const command = await page.evaluate(() => navigator.clipboard.readText())
  const env = { ...process.env, MPG_KEY: key.plaintextKey, no_proxy: '127.0.0.1' }
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { env })
  const answer = JSON.parse(stdout.startsWith('{') ? stdout : stdout.split('data: ').at(-1))
  assert.deepEqual(answer.result?.structuredContent, { text: typed }, stdout)
  assert.ok(!command.includes(key.plaintextKey))
  assert.deepEqual(complaints, [])
  await context.close()
})

test('a call of before is filled in again, and gone with the session', async () => {
  const { page, context, complaints } = await scene.signedIn()
  await page.goto(`/tools/${tools.say}`)
  const field = page.getByRole('textbox', { name: 'text (optional)' })
  for (const text of ['first', 'second']) {
    await field.fill(text)
    await callTool(page)
    await resultOf(page).getByText(text).first().waitFor()
  }
  await page.getByText('2 calls of this session').click()
  await page.locator('[data-test=history] button').filter({ hasText: 'first' }).click()
  assert.equal(await field.inputValue(), 'first')
  await resultOf(page).getByText('first').first().waitFor()
  await checkPage(page, 'calls of before')
  // To another page and back by the router: the same session still.
  await page.evaluate(() => {
    const { $router } = document.querySelector('#app').__vue_app__.config.globalProperties
    return $router.push('/account')
  })
  await page.getByRole('button', { name: 'Sign out', exact: true }).click()
  await page.waitForURL('**/login**')
  await page.fill('input[name=username]', 'ann')
  await page.fill('input[name=password]', 'a good password')
  await page.click('button[type=submit]')
  await page.waitForURL((url) => url.pathname !== '/login')
  await page.evaluate((path) => {
    const { $router } = document.querySelector('#app').__vue_app__.config.globalProperties
    return $router.push(path)
  }, `/tools/${tools.say}`)
  await field.waitFor()
  assert.equal(await page.getByText('of this session').count(), 0)
  assert.deepEqual(complaints, [])
  await context.close()
})
