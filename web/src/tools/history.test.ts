import { beforeEach, expect, test } from 'vitest'
import { forget, note, triedOf } from './history'

const tried = (name: string, text = '') => ({
  name,
  at: '2026-11-22T08:00:00Z',
  keyId: 'k',
  arguments: { text },
  answer: { ms: 1, result: {} } as never,
})

beforeEach(forget)

test('calls are kept by tool, the last first', () => {
  for (const name of ['a', 'b', 'a']) note(tried(name))
  expect(triedOf('a')).toHaveLength(2)
  expect(triedOf('a')[0]!.id).toBeGreaterThan(triedOf('a')[1]!.id)
  forget()
  expect(triedOf('a')).toEqual([])
})

test('too many, and too much, push the oldest out', () => {
  for (let at = 0; at < 60; at++) note(tried('a', String(at)))
  expect(triedOf('a')).toHaveLength(50)
  expect(triedOf('a')[0]!.arguments).toEqual({ text: '59' })
  note(tried('b', 'x'.repeat(3_999_000)))
  expect(triedOf('a').length).toBeLessThan(50)
  expect(triedOf('b')).toHaveLength(1)
  note(tried('c', 'x'.repeat(4_000_001)))
  expect([triedOf('a'), triedOf('b'), triedOf('c')].flat()).toEqual([])
})
