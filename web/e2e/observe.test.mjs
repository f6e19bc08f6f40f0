// What the console shows of what happens: the start page, statistics, audit and logs, live, and the ways between them.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { call, furnish, startScene } from './scene.mjs'

const CALLS = 4
/** How long the log is flooded once it is full: a minute where FLOOD_SECONDS says 60, less in every run. */
const FLOOD_MS = Number(process.env.FLOOD_SECONDS ?? 10) * 1_000

let scene
let furniture
let opened

before(async () => {
  scene = await startScene()
  opened = await scene.signedIn()
})

after(() => scene?.stop())

/** Bytes of the page's memory that are in use. */
async function heap(page) {
  const session = await page.context().newCDPSession(page)
  await session.send('HeapProfiler.collectGarbage')
  const { usedSize } = await session.send('Runtime.getHeapUsage')
  await session.detach()
  return usedSize
}

/** The text of a tile once it is `wanted`. */
async function tile(page, name, wanted) {
  await page.waitForFunction(
    ([name, wanted]) => document.querySelector(`[data-test=${name}]`)?.textContent.includes(wanted),
    [name, wanted],
  )
}

test('an empty gateway shows the way to the first call', async () => {
  const { page } = opened
  await page.goto('/')
  await page.waitForURL('**/overview')
  await page.click('text=Add upstream')
  await page.waitForURL('**/upstreams/new')
})

test('the start page says what the REST API says, and what needs attention', async () => {
  const { page } = opened
  furniture = await furnish(scene, CALLS)
  await page.goto('/overview?range=1h')
  const summary = await scene.ask('/api/admin/stats/summary')
  assert.equal(summary.calls, CALLS)
  await tile(page, 'perMinute', `${summary.calls} calls`)
  await tile(page, 'errorRate', '0%')
  await page.waitForSelector('[data-test=attention] >> text=nobody is not available')
  const ranked = await page.innerText('[data-test=top-tool]')
  assert.match(ranked, new RegExp(`test_simple_text\\s+${CALLS}`))
  await page.waitForSelector('canvas')
  await page.getByText('As a table').click()
  await page.waitForSelector('table >> text=Succeeded')
})

test('calls show by themselves, without a reload', async () => {
  const { page } = opened
  await call(scene, furniture.key, 1)
  await tile(page, 'perMinute', `${CALLS + 1} calls`)
})

test('statistics are filtered by the URL and saved as a file', async () => {
  const { page } = opened
  await page.goto(`/statistics?range=1h&upstreamId=${furniture.upstream.id}&by=key`)
  await tile(page, 'calls', String(CALLS + 1))
  await page.waitForSelector('[data-test=ranking] >> text=laptop')
  assert.equal(await page.locator('[data-test=calls] li').count(), CALLS + 1)
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByLabel('Download as CSV: Calls, one by one').click(),
  ])
  const lines = (await readFile(await download.path(), 'utf8')).trim().split('\r\n')
  assert.equal(lines.length, CALLS + 2)
  await page.getByLabel('Outcome').selectOption('timeout')
  await page.waitForURL(/outcome=timeout/)
  await tile(page, 'calls', '0')
})

test('the audit log tells who did what, is verified, and is exported', async () => {
  const { page } = opened
  await page.goto('/audit?targetKind=key')
  await page.waitForSelector('[data-test=chain] >> text=Chain verified')
  await page.click('summary:has-text("key.create")')
  await page.waitForSelector('dd >> text=laptop')
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByLabel('Download as JSONL').click(),
  ])
  const lines = (await readFile(await download.path(), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.ok(lines.some(({ action }) => action === 'key.create'))
})

test('lines of the log show, are filtered, and stay while paused', async () => {
  const { page } = opened
  await page.goto('/logs')
  await page.waitForSelector('[data-test=lines] li')
  await page.waitForSelector('text="Live"')
  await page.getByText('Pause', { exact: true }).click()
  await page.waitForSelector('text="Paused"')
  await page.getByLabel('Search the lines').fill('surely nothing says this')
  await page.waitForSelector('text=Nothing found')
})

test('a thousand lines a second leave the page smooth and its memory bounded', async () => {
  const { page, context, complaints } = await scene.signedIn()
  // A peer that says more than the gateway would: only its pace is made up.
  await page.addInitScript(() => {
    const real = window.fetch
    window.fetch = (input, init) => {
      if (!String(input?.url ?? input).includes('/api/admin/events')) return real(input, init)
      let seq = 1_000_000
      let timer
      const body = new ReadableStream({
        start(controller) {
          timer = setInterval(() => {
            let text = ''
            for (let line = 0; line < 100; line += 1) {
              seq += 1
              const data = {
                seq,
                at: new Date().toISOString(),
                level: 'info',
                target: 'flood',
                message: `line ${seq}`,
                fields: {},
              }
              text += `event: log\ndata: ${JSON.stringify(data)}\n\n`
            }
            controller.enqueue(new TextEncoder().encode(text))
          }, 100)
        },
        cancel: () => clearInterval(timer),
      })
      return Promise.resolve(new Response(body, { status: 200 }))
    }
  })
  await page.goto('/logs')
  await page.waitForSelector('text=/of 10,000 lines/', { timeout: 60_000 })
  const full = await heap(page)
  const measured = await page.evaluate(
    (milliseconds) =>
      new Promise((resolve) => {
        const gaps = []
        const begun = performance.now()
        let last = begun
        requestAnimationFrame(function frame(now) {
          gaps.push(now - last)
          last = now
          if (now - begun < milliseconds) return requestAnimationFrame(frame)
          resolve({
            late: gaps.filter((gap) => gap > 100).length / gaps.length,
            frames: gaps.length,
            rows: document.querySelectorAll('[data-test=lines] li').length,
          })
        })
      }),
    FLOOD_MS,
  )
  measured.growth = (await heap(page)) / full
  console.log(`# flood: ${JSON.stringify(measured)}`)
  assert.ok(measured.rows < 100, `${measured.rows} rows in the page`)
  assert.ok(measured.late < 0.05, `${measured.late} of the frames were late`)
  assert.ok(measured.growth < 1.2, `memory grew to ${measured.growth} of what it was with all lines`)
  assert.deepEqual(complaints, [])
  await context.close()
})

test('the palette goes anywhere by keyboard', async () => {
  const { page } = opened
  await page.goto('/overview')
  await page.waitForSelector('main h1')
  await page.keyboard.press('Control+k')
  await page.waitForSelector('[role=dialog] input')
  await page.keyboard.type('audit')
  await page.waitForSelector('[role=option]:has-text("Audit")')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/audit')
  await page.keyboard.press('Control+k')
  await page.keyboard.type('refer')
  await page.waitForSelector('[role=option]:has-text("reference")')
  await page.keyboard.press('Enter')
  await page.waitForURL(`**/upstreams/${furniture.upstream.id}`)
  await page.keyboard.press('Control+k')
  await page.waitForSelector('[role=dialog] input')
  await page.keyboard.type('backup')
  await page.waitForSelector('[role=option]:has-text("Backup and restore")')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/settings/backup')
})

test('on a phone the rest of the pages is one tap away', async () => {
  const { page, context } = await scene.signedIn({ viewport: { width: 360, height: 780 } })
  await page.goto('/overview')
  await page.click('nav >> text=More')
  await page.click('[role=dialog] >> text=Statistics')
  await page.waitForURL('**/statistics')
  await page.waitForSelector('[role=dialog]', { state: 'detached' })
  await context.close()
})

test('a gateway that is gone is said to be gone, and what was known stays', async () => {
  const { page, complaints } = opened
  assert.deepEqual(complaints, [])
  await page.goto('/overview')
  await page.waitForSelector('[data-test=perMinute]')
  await opened.context.setOffline(true)
  await page.waitForSelector('text=You are offline')
  assert.ok(await page.isVisible('[data-test=perMinute]'))
  await opened.context.setOffline(false)
  await page.waitForSelector('text=You are offline', { state: 'detached' })
})
