import { describe, expect, it } from 'vitest'
import { LINES_MAX, append, matches } from './buffer'
import type { LineFilter, LogLine } from './buffer'

/** The generated type says that they are empty: anything may be in them. */
type Fields = LogLine['fields']

const line = (seq: number, changed: Partial<LogLine> = {}): LogLine => ({
  seq,
  at: new Date(Date.UTC(2026, 0, 1) + seq).toISOString(),
  level: 'info',
  target: 'proxy::sync',
  message: 'synced',
  fields: {},
  ...changed,
})
const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => line(from + index))
const numbers = (held: LogLine[]) => held.map(({ seq }) => seq)

describe('append', () => {
  it('never holds more than it may', () => {
    const held = append(lines(0, LINES_MAX), lines(LINES_MAX, LINES_MAX + 500))
    expect(held).toHaveLength(LINES_MAX)
    expect(held.at(-1)?.seq).toBe(LINES_MAX + 499)
  })

  it('shows a line once that is read anew after a gap', () => {
    expect(numbers(append(lines(1, 4), lines(2, 7)))).toEqual([1, 2, 3, 4, 5, 6])
  })

  it('begins anew with a gateway that was started again', () => {
    const later = '2027-01-01T00:00:00.000Z'
    expect(append(lines(50, 60), [line(1, { at: later })])).toEqual([line(1, { at: later })])
  })
})

describe('matches', () => {
  const all: LineFilter = { level: 'trace', search: '', upstream: [], key: [] }
  const filter = (changed: Partial<LineFilter>): LineFilter => ({ ...all, ...changed })

  it('takes a level and what is worse', () => {
    expect(matches(line(1, { level: 'error' }), filter({ level: 'warn' }))).toBe(true)
    expect(matches(line(1), filter({ level: 'warn' }))).toBe(false)
  })

  it('knows an upstream by a field that names it, not by any text', () => {
    const of = line(1, { fields: { 'upstream.id': 'u1' } as unknown as Fields })
    expect(matches(of, filter({ upstream: ['u1', 'files'] }))).toBe(true)
    expect(matches(of, filter({ key: ['u1'] }))).toBe(false)
    expect(matches(line(1, { message: 'u1' }), filter({ upstream: ['u1'] }))).toBe(false)
  })

  it('searches what a line says and of what', () => {
    expect(
      matches(
        line(1, { fields: { tool: 'Read_File' } as unknown as Fields }),
        filter({ search: 'read_file' }),
      ),
    ).toBe(true)
    expect(matches(line(1), filter({ search: 'nothing' }))).toBe(false)
  })
})
