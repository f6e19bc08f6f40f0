import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { placesFor } from './places'
import type { Placed } from './places'

const at = (places: number[]): Placed[] => places.map((sortOrder, index) => ({ id: `u${index}`, sortOrder }))
const after = (wanted: Placed[]) => {
  const changed = new Map(placesFor(wanted).map(({ id, sortOrder }) => [id, sortOrder]))
  return wanted.map(({ id, sortOrder }) => changed.get(id) ?? sortOrder)
}

describe('placesFor', () => {
  it('changes nothing that is in order', () => {
    expect(placesFor(at([0, 1, 5]))).toEqual([])
  })

  it('moves one alone where there is room', () => {
    expect(placesFor(at([10, 40, 20, 30]))).toEqual([{ id: 'u1', sortOrder: 11 }])
  })

  it('moves the shorter side where there is none', () => {
    expect(placesFor(at([0, 4, 1, 2, 3, 5])).map(({ id }) => id)).toEqual(['u0', 'u1'])
  })

  it('parts those that share a place', () => {
    expect(after(at([0, 0, 0]))).toEqual([0, 1, 2])
  })

  it('stays within what a place can be', () => {
    expect(after(at([1_000_000_000, 999_999_999]))).toEqual([0, 1])
    expect(after(at([7, -1_000_000_000, -999_999_999]))).toEqual([0, 1, 2])
  })

  it('makes the places of any list grow, within bounds', () => {
    const place = fc.oneof(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -1e9, max: 1e9 }))
    fc.assert(
      fc.property(fc.array(place, { maxLength: 40 }), (places) => {
        const result = after(at(places))
        result.forEach((own, index) => {
          expect(Math.abs(own)).toBeLessThanOrEqual(1e9)
          if (index > 0) expect(own).toBeGreaterThan(result[index - 1] ?? 0)
        })
      }),
    )
  })
})
