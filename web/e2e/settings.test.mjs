// Settings are shown as a difference before they are saved; the account's page can be read.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPage } from './browser.mjs'
import { inEachLook, signedIn } from './signedIn.mjs'

const scene = signedIn()
const LIMIT = 'input[name="mcp_api.smart_discovery_limit"]'

test('a change is shown, saved, and there again', async () => {
  const { page } = scene
  await page.goto('/settings')
  await page.fill(LIMIT, '20')
  await page.click('text="Review one change"')
  assert.match(await page.innerText('[data-test=diff]'), /50\s+20/)
  await page.click('button:text-is("Save")')
  await page.waitForSelector('text=The settings were saved')
  await page.reload()
  await page.waitForFunction((field) => document.querySelector(field)?.value === '20', LIMIT)
})

test('what is out of range is refused at its field', async () => {
  const { page } = scene
  await page.fill(LIMIT, '100000')
  await page.click('text="Review one change"')
  await page.click('button:text-is("Save")')
  await page.waitForSelector(`${LIMIT}[aria-invalid=true]`)
  await page.fill(LIMIT, '20')
})

test('the pages can be read', async () => {
  for (const path of ['/settings', '/account']) {
    await inEachLook(scene.page, path, (what) => checkPage(scene.page, what))
  }
  assert.deepEqual(scene.complaints, [])
})
