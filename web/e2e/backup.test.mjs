// A backup out, what it would change, and in again; what is no backup, or no passphrase for it, is said.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPage } from './browser.mjs'
import { signedIn } from './signedIn.mjs'

const scene = signedIn()
const PASSPHRASE = 'a passphrase of its own'
const SECRET = 'Bearer canary-1729'
let token, folder, file

/** An answer of the REST API. */
async function ask(method, path, body) {
  const response = await fetch(`${scene.gateway.origin}${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }) },
    body: body && JSON.stringify(body),
  })
  assert.ok(response.ok, `${method} ${path}: ${response.status}`)
  return response.status === 204 ? undefined : response.json()
}

const names = async () => (await ask('GET', '/api/admin/upstreams')).items.map(({ name }) => name).sort()

const add = (name) =>
  ask('POST', '/api/admin/upstreams', {
    name,
    transport: 'streamable-http',
    enabled: false,
    connParams: { url: `https://${name}.example.com/mcp`, headers: { Authorization: { secret: SECRET } } },
  })

/** Two upstreams, one of which will be lost. */
async function furnish() {
  folder = await mkdtemp(join(tmpdir(), 'backup-'))
  const login = await fetch(`${scene.gateway.origin}/api/auth/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username: 'ann', password: 'a good password' }),
  })
  token = (await login.json()).token
  await add('kept')
  await add('lost')
}

test('a backup is downloaded, once its passphrase was typed twice', async () => {
  const { page } = scene
  await furnish()
  await page.goto('/settings')
  await page.click('text="Backup and restore"')
  await page.fill('input[name=new-passphrase]', PASSPHRASE)
  await page.fill('input[name=new-passphrase-again]', 'another')
  await page.click('button:text-is("Download")')
  await page.waitForSelector('input[name=new-passphrase-again][aria-invalid=true]')
  await page.fill('input[name=new-passphrase-again]', PASSPHRASE)
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.click('button:text-is("Download")'),
  ])
  assert.match(download.suggestedFilename(), /^mcp-proxy-gateway-\d{4}-\d\d-\d\d\.json$/)
  file = await download.path()
  const text = await readFile(file, 'utf8')
  assert.equal(JSON.parse(text).format, 'mpg-backup/v1')
  assert.ok(!text.includes(SECRET))
})

test('what is no backup is said, and nothing is sent', async () => {
  const { page } = scene
  for (const [content, said] of [
    ['{"format": ', 'not JSON'],
    ['{"mcpServers": {}}', 'no backup of this gateway'],
  ]) {
    const other = join(folder, 'other.json')
    await writeFile(other, content)
    await page.setInputFiles('input[name=backup]', other)
    await page.getByText(said).waitFor()
  }
  assert.equal(await page.locator('[data-test=picked]').count(), 0)
})

test('another passphrase is refused, and an edited file too', async () => {
  const { page } = scene
  const edited = join(folder, 'edited.json')
  await writeFile(edited, (await readFile(file, 'utf8')).replace('kept.example.com', 'evil.example.com'))
  await page.setInputFiles('input[name=backup]', edited)
  await page.fill('input[name=passphrase]', PASSPHRASE)
  await page.click('text="Show what would change"')
  await page.getByText('This is not a valid backup').waitFor()
  await page.setInputFiles('input[name=backup]', file)
  await page.fill('input[name=passphrase]', 'not this passphrase')
  await page.click('text="Show what would change"')
  await page.waitForSelector('input[name=passphrase][aria-invalid=true]')
  assert.equal(await page.locator('[data-test=report]').count(), 0)
})

test('what would change is shown, and restored when it was agreed to', async () => {
  const { page } = scene
  const lost = (await ask('GET', '/api/admin/upstreams')).items.find(({ name }) => name === 'lost')
  await ask('DELETE', `/api/admin/upstreams/${lost.id}`)
  await page.setInputFiles('input[name=backup]', file)
  await page.fill('input[name=passphrase]', PASSPHRASE)
  await page.click('text="Show what would change"')
  const report = page.locator('[data-test=report]')
  await report.getByText('1 would be created').waitFor()
  await checkPage(page, 'a restore that is previewed')
  assert.match(await report.innerText(), /create\s+Upstream\s+lost/)
  assert.deepEqual(await names(), ['kept'], 'a look changes nothing')
  await page.click('text="Restore one change"')
  await page.getByRole('alertdialog').getByRole('button', { name: 'Restore' }).click()
  await report.getByText('1 created').waitFor()
  assert.equal(await page.inputValue('input[name=passphrase]'), '', 'it is not kept for whoever comes next')
  assert.deepEqual(await names(), ['kept', 'lost'])
})

test('what the backup lacks goes only when that was typed', async () => {
  const { page } = scene
  await add('later')
  await page.setInputFiles('input[name=backup]', file)
  await page.fill('input[name=passphrase]', PASSPHRASE)
  await page.getByText('Replace', { exact: true }).click()
  await page.click('text="Show what would change"')
  await page.locator('[data-test=report]').getByText('1 would be deleted').waitFor()
  await page.click('text="Restore one change"')
  const dialog = page.getByRole('alertdialog')
  assert.ok(await dialog.getByRole('button', { name: 'Restore' }).isDisabled())
  await dialog.getByRole('textbox').fill('replace')
  // Meanwhile somebody adds another, which nobody has agreed to delete.
  await add('unseen')
  await dialog.getByRole('button', { name: 'Restore' }).click()
  await page.getByText('something was changed since the preview').waitFor()
  await page.locator('[data-test=report]').getByText('2 would be deleted').waitFor()
  assert.deepEqual(await names(), ['kept', 'later', 'lost', 'unseen'])
  await page.click('text="Restore 2 changes"')
  await dialog.getByRole('textbox').fill('replace')
  await dialog.getByRole('button', { name: 'Restore' }).click()
  await page.getByText('2 deleted').waitFor()
  assert.deepEqual(await names(), ['kept', 'lost'])
  assert.deepEqual(scene.complaints, [])
})
