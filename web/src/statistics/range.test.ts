import { describe, expect, it } from 'vitest'
import { asRange, minutesOf, offsetOf, spanOf } from './range'

const now = Date.parse('2026-01-02T12:00:00.000Z')

describe('ranges', () => {
  it('end now', () => {
    expect(spanOf('1h', now)).toEqual({ from: '2026-01-02T11:00:00.000Z', to: '2026-01-02T12:00:00.000Z' })
    expect(minutesOf('7d')).toBe(10_080)
  })

  it('take nothing from a URL that they do not know', () => {
    expect(asRange('15m')).toBe('15m')
    expect(asRange('constructor')).toBe('24h')
  })
})

it.each([
  [-330, '+05:30'],
  [0, '+00:00'],
  [210, '-03:30'],
])('a clock %s minutes behind is %s', (minutes, text) => {
  expect(offsetOf({ getTimezoneOffset: () => minutes } as Date)).toBe(text)
})
