import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { curlOf } from './curl'

const ORIGIN = 'https://gateway.example'

/** What a shell makes of the command: the arguments that curl would get. */
function wordsOf(command: string): string[] {
  const script = `MPG_KEY=the-key; curl() { printf '%s\\0' "$@"; }; ${command}`
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1)
}

const headersOf = (words: string[]) => words.filter((_, at) => words[at - 1] === '-H')

test('a shell passes on what was typed, whatever it is', () => {
  const given = { text: `it's "quoted" $(id) \`id\` \\ \n ! 今天 %00 ;&|<>`, n: 1.5, nested: { "'": ["'"] } }
  const words = wordsOf(curlOf({ origin: ORIGIN, name: 'echo', schema: {}, arguments: given }))
  expect(words.slice(0, 2)).toEqual(['-sS', `${ORIGIN}/mcp/full/http`])
  expect(words.at(-2)).toBe('-d')
  expect(JSON.parse(words.at(-1) ?? '')).toMatchObject({ params: { name: 'echo', arguments: given } })
  expect(headersOf(words)).toContain('Authorization: Bearer the-key')
  expect(headersOf(words)).toContain('Mcp-Name: echo')
})

test('no key is in it', () => {
  expect(curlOf({ origin: ORIGIN, name: 'echo', schema: {}, arguments: {} })).toContain('Bearer $MPG_KEY')
})

test('what the schema wants in headers stands there, encoded where it has to be', () => {
  const schema = {
    properties: {
      region: { type: 'string', 'x-mcp-header': 'Region' },
      absent: { type: 'string', 'x-mcp-header': 'Absent' },
      inner: { properties: { n: { type: 'integer', 'x-mcp-header': 'N' } } },
      plain: { type: 'string' },
    },
  }
  const given = { region: '上海', inner: { n: 7 }, plain: 'x' }
  const headers = headersOf(wordsOf(curlOf({ origin: ORIGIN, name: 'a tool ', schema, arguments: given })))
  expect(headers).toContain(`Mcp-Param-Region: =?base64?${Buffer.from('上海').toString('base64')}?=`)
  expect(headers).toContain('Mcp-Param-N: 7')
  expect(headers).toContain(`Mcp-Name: =?base64?${Buffer.from('a tool ').toString('base64')}?=`)
  expect(headers.filter((header) => header.startsWith('Mcp-Param-'))).toHaveLength(2)
})
