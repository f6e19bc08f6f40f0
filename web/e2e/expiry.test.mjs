// A session that ends in the middle of an edit: what was typed stays, and is saved after signing in again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { signedIn } from './signedIn.mjs'

const scene = signedIn()

test('an edit outlives the session it was begun in', async () => {
  const { page, gateway, complaints } = scene
  await page.goto('/keys')
  await page.click('main a:text-is("tests")')
  await page.waitForSelector('text="Rotate"')
  const detail = new URL(page.url()).pathname
  await page.goto(`${detail}/edit`)
  await page.waitForFunction(() => document.querySelector('input[name=name]')?.value === 'tests')
  await page.fill('input[name=name]', 'renamed')
  await page.getByLabel('Calls per day').fill('500')
  const { token } = JSON.parse(await page.evaluate(() => sessionStorage.getItem('session')))
  const headers = { Authorization: `Bearer ${token}` }
  const ended = await fetch(`${gateway.origin}/api/admin/auth/logout`, { method: 'POST', headers })
  assert.equal(ended.ok, true)
  await page.click('button[type=submit]')
  await page.fill('[role=dialog] input[name=password]', 'a good password')
  await page.click('[role=dialog] button[type=submit]')
  await page.waitForSelector('[role=dialog]', { state: 'detached' })
  assert.equal(await page.inputValue('input[name=name]'), 'renamed')
  assert.equal(await page.getByLabel('Calls per day').inputValue(), '500')
  await page.click('main button[type=submit]')
  await page.waitForSelector('h1:has-text("renamed")')
  await page.waitForSelector('text=of 500')
  assert.deepEqual(complaints, [])
})
