import { describe, expect, it } from 'vitest'
import { backoffMs } from './backoff'
import { createEventParser } from './parse'

describe('createEventParser', () => {
  it('puts events together that come in pieces', () => {
    const parse = createEventParser()
    expect(parse(':\n\nevent: call\nda')).toEqual([])
    expect(parse('ta: {"more":3}\n')).toEqual([])
    expect(parse('\nevent: log\r\ndata: {"seq":1}\r\n\r\n')).toEqual([
      { kind: 'call', data: { more: 3 } },
      { kind: 'log', data: { seq: 1 } },
    ])
  })

  it('passes over what it does not understand', () => {
    const parse = createEventParser()
    expect(parse('data: {}\n\nevent: call\ndata: {\n\nevent: call\ndata: 1\n\n')).toEqual([
      { kind: 'call', data: 1 },
    ])
  })
})

describe('backoffMs', () => {
  it('grows to a bound, and is never nothing', () => {
    expect(backoffMs(1, 0)).toBe(500)
    expect(backoffMs(3, 1)).toBe(4_000)
    expect(backoffMs(99, 1)).toBe(30_000)
  })
})
