import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const src = join(dirname(fileURLToPath(import.meta.url)), '..')

/** `a.b {name}` for each message: its path and what it interpolates. */
function shape(node: unknown, path = ''): string[] {
  if (typeof node === 'string') {
    // Each once: forms for one and for many repeat them, and not every language has both.
    const names = new Set(node.match(/\{[^}]*\}/g))
    return [`${path} ${[...names].sort().join(' ')}`]
  }
  return Object.entries(node as object).flatMap(([key, value]) => shape(value, path ? `${path}.${key}` : key))
}

const nouns = readdirSync(src, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => join(src, entry.name, 'locales'))
  .filter((folder) => {
    try {
      return readdirSync(folder).length > 0
    } catch {
      return false
    }
  })

describe('messages', () => {
  it.each(nouns)('%s say the same in both languages', (folder) => {
    const read = (locale: string): unknown => JSON.parse(readFileSync(join(folder, `${locale}.json`), 'utf8'))
    expect(shape(read('zh-CN')).sort()).toEqual(shape(read('en')).sort())
  })
})
