import { describe, expect, it } from 'vitest'
import { relativeTime } from './time'

const now = Date.parse('2026-01-02T12:00:00Z')

describe('relativeTime', () => {
  it.each([
    ['2026-01-02T12:00:00Z', 'now'],
    ['2026-01-02T11:59:30Z', '30 seconds ago'],
    ['2026-01-02T11:58:00Z', '2 minutes ago'],
    ['2026-01-01T12:00:00Z', 'yesterday'],
    ['2026-01-02T15:00:00Z', 'in 3 hours'],
  ])('%s is %s', (time, text) => {
    expect(relativeTime(time, now, 'en')).toBe(text)
  })
})
