// The tester says what the gateway would, or that it doesn't know; never something else.
import { describe, expect, it } from 'vitest'
import { tryPattern } from './regex'

const gives = (pattern: string, target: string, name = 'get_user_name') => {
  const tried = tryPattern(pattern, true, target, name)
  return tried.outcome === 'matches' ? tried.gives : tried.outcome
}

describe('a pattern', () => {
  it('is a whole name, or matches a whole name', () => {
    expect(tryPattern('get', false, '', 'get').outcome).toBe('matches')
    expect(tryPattern('get', false, '', 'Get').outcome).toBe('misses')
    expect(tryPattern('g.t', false, '', 'get').outcome).toBe('misses')
    expect(tryPattern('get', true, '', 'get_user').outcome).toBe('misses')
    expect(tryPattern('a|get_user', true, '', 'get_user').outcome).toBe('matches')
    expect(tryPattern('(?i)GET_.*', true, '', 'get_user').outcome).toBe('matches')
  })

  // As the gateway's own tests say.
  it.each([
    ['read_$1', 'read_user'],
    ['$1_x', 'user_x'],
    ['$12', 'user2'],
    ['${what}.${1}', 'name.user'],
    ['$2$1$2', 'nameusername'],
    ['a$', 'a$'],
    ['$x$$1${', '$x$user${'],
    ['$0', '$0'],
  ])('fills its groups into %s', (target, name) => {
    expect(gives('get_(.*)_(?P<what>.*)', target)).toBe(name)
  })

  it('leaves a group empty that took no part, and names one that is not there', () => {
    expect(gives('(a)|(b)', '$1-$2', 'b')).toBe('-b')
    expect(tryPattern('(a)', true, '$2', 'a')).toEqual({ outcome: 'noGroup', group: '2' })
    expect(tryPattern('a', false, '${x}', 'a')).toEqual({ outcome: 'noGroup', group: 'x' })
  })

  it('that the gateway refuses is refused', () => {
    for (const pattern of ['a(?=b)', '(?<!a)b', '(a)\\1']) expect(gives(pattern, '')).toBe('refused')
  })

  it('that the browser would read otherwise, or for ever, is not tried', () => {
    for (const pattern of [
      '\\pL+',
      '(?x)a b',
      '[[:alpha:]]+',
      '(',
      '(a+)+b',
      '((a|a))*b',
      '(?:x{1,9}){1,9}',
    ]) {
      expect(gives(pattern, ''), pattern).toBe('unknown')
    }
    expect(gives('(get|list)_(.*)', '$2_$1')).toBe('user_name_get')
    expect(gives('[(+]*get.*', 'x')).toBe('x')
  })
})
