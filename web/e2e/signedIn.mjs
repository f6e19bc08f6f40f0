// A gateway of its own, and a browser that is signed in at it.
import { after, before } from 'node:test'
import { startGateway } from '../../src/tests/harness/gateway.mjs'
import { launch, openPage } from './browser.mjs'
import { served } from './served.mjs'

/** Resolves before the first test: `scene.page`, `scene.gateway`, `scene.complaints`. */
export function signedIn() {
  const scene = {}
  before(async () => {
    scene.gateway = await startGateway({ binary: process.env.MPG_BINARY, upstreams: [], tools: [] })
    scene.front = await served(scene.gateway.origin)
    scene.browser = await launch()
    Object.assign(scene, await openPage(scene.browser, scene.front.origin))
    await scene.page.goto('/register')
    await scene.page.fill('input[name=username]', 'ann')
    await scene.page.fill('input[name=password]', 'a good password')
    await scene.page.click('button[type=submit]')
    await scene.page.waitForURL((url) => url.pathname !== '/register')
  })
  after(async () => {
    await scene.browser?.close()
    await scene.front?.stop()
    await scene.gateway?.stop()
  })
  return scene
}

const SIZES = [
  { width: 1280, height: 900 },
  { width: 360, height: 780 },
]

/** Calls `check` on the page in both sizes and themes. */
export async function inEachLook(page, path, check) {
  for (const viewport of SIZES) {
    for (const theme of ['light', 'dark']) {
      await page.setViewportSize(viewport)
      await page.evaluate((theme) => localStorage.setItem('theme', theme), theme)
      await page.goto(path)
      await page.waitForSelector('main h1')
      await page.waitForFunction(() => !document.querySelector('[aria-busy=true]'))
      await check(`${path} ${viewport.width} ${theme}`)
    }
  }
  await page.setViewportSize(SIZES[0])
}
