// Every page that the router knows, in both themes and languages and at five widths: nothing grave for axe, nothing
// that scrolls sideways, no error, no broken policy. A page with a parameter joins by a line in PARAMETERS.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkPage } from './browser.mjs'
import { furnish, startScene } from './scene.mjs'

const THEMES = ['light', 'dark']
const LOCALES = ['en', 'zh-CN']
const WIDTHS = [360, 768, 1280, 1920, 3840]
const HEIGHT = 900
const TEMPLATE = 'github'
/** A setting's name in the REST API, or that of a message. */
const RAW_NAME = /\b(?:aggregation|connection|limits|mcp_api|ui|settings|connect)\.[a-z_]{3,}/i

let scene
let pages

/** Paths with a parameter, as this scene fills it in. */
const parameters = ({ upstream, tool, key }) => [
  `/upstreams/${upstream.id}`,
  `/upstreams/${upstream.id}/edit`,
  `/tools/${tool.id}`,
  `/keys/${key.id}`,
  `/keys/${key.id}/edit`,
  `/templates/${TEMPLATE}`,
]

before(async () => {
  scene = await startScene()
  const furniture = await furnish(scene, 3)
  const { page, context } = await scene.signedIn()
  await page.goto('/')
  await page.waitForSelector('main h1')
  const known = await page.evaluate(() =>
    document
      .querySelector('#app')
      .__vue_app__.config.globalProperties.$router.getRoutes()
      .filter(({ path, meta, redirect }) => !path.includes(':') && !meta.isPublic && !redirect)
      .map(({ path }) => path),
  )
  assert.ok(known.includes('/overview') && known.includes('/logs'), known.join())
  pages = [...known, ...parameters(furniture), '/nowhere']
  await context.close()
})

after(() => scene?.stop())

async function open(page, path) {
  await page.goto(path)
  await page.waitForSelector('main h1')
  await page.waitForFunction(() => !document.querySelector('main [aria-busy=true], main .animate-pulse.h-64'))
}

/** In the page: the controls that cover a part of one another. What scrolls in a box of its own is cut off there. */
function overlaps() {
  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowY)
  const isCut = (element) => element !== document.body && (scrolls(element) || isCut(element.parentElement))
  const controls = [...document.querySelectorAll('main :is(input, select, textarea, button):not(.sr-only)')]
  const boxes = controls
    .filter((control) => !isCut(control.parentElement))
    .map((control) => [
      control.name || control.placeholder || control.innerText,
      control.getBoundingClientRect(),
    ])
    .filter(([, { width, height }]) => width > 4 && height > 4)
  const lies = (a, b) =>
    a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom
  return boxes.flatMap(([one, a], at) =>
    boxes.slice(at + 1).flatMap(([other, b]) => (lies(a, b) ? [`${one} | ${other}`] : [])),
  )
}

for (const theme of THEMES) {
  for (const locale of LOCALES) {
    test(`every page can be read: ${theme}, ${locale}`, async () => {
      const { page, context, complaints } = await scene.signedIn({ theme, locale })
      for (const path of pages) {
        await open(page, path)
        await checkPage(page, path)
        const shown = await page.locator('main').innerText()
        assert.doesNotMatch(shown, RAW_NAME, `${path} shows a name for which there are words`)
        if (process.env.PICTURES) await picture(page, path, `${theme}-${locale}-1280`)
      }
      assert.deepEqual(complaints, [])
      await context.close()
    })
  }
}

test('no page scrolls sideways, however wide the window', async () => {
  const { page, context, complaints } = await scene.signedIn({ locale: 'en' })
  for (const path of pages) {
    await open(page, path)
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: HEIGHT })
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      )
      assert.equal(overflow, 0, `${path} at ${width}`)
      assert.deepEqual(await page.evaluate(overlaps), [], `${path} at ${width}: controls lie on one another`)
      if (process.env.PICTURES) await picture(page, path, `light-en-${width}`)
    }
  }
  assert.deepEqual(complaints, [])
  await context.close()
})

/** PICTURES names a folder for a picture of each page. */
function picture(page, path, name) {
  const file = `${process.env.PICTURES}/${path.replaceAll('/', '_')}-${name}.png`
  return page.screenshot({ path: file, fullPage: true })
}
