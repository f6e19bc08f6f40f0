import { expect, it } from 'vitest'
import { dayAfter, dayOf } from './filters'

it('a day ends where the next begins, over the end of a month too', () => {
  expect(dayAfter('2026-02-28')).toBe(dayOf('2026-03-01'))
})

it('what is no day narrows nothing', () => {
  expect(dayOf('2026-13-40')).toBeUndefined()
  expect(dayAfter('yesterday')).toBeUndefined()
})
