import { describe, expect, it } from 'vitest'
import type { FilterRule } from '@/api/types'
import { aliasOf, draftOf, emptyDraft, filterOf, previewOf } from './draft'
import { ownerText, parseOwner } from './owner'

const id = '01890000-0000-7000-8000-000000000000'
const stored = (id: string, pattern: string): FilterRule => ({
  id,
  owner: { type: 'all' },
  pattern,
  isRegex: true,
  matchOn: 'upstream',
  action: 'allow',
  enabled: false,
  sortOrder: 3,
  kinds: ['prompt'],
  version: 1,
  createdAt: '2026-01-01T00:00:00Z',
  updatedAt: '2026-01-01T00:00:00Z',
})

describe('a draft', () => {
  it('says nothing of names and descriptions that stay', () => {
    const draft = { ...emptyDraft('a'), targetName: 'b' }
    expect(aliasOf(draft, { type: 'all' })).toMatchObject({ targetName: 'b', targetDescription: null })
  })

  it('looks at exposed names for a key alone', () => {
    const draft = { ...emptyDraft('a'), matchOn: 'exposed' as const }
    expect(filterOf(draft, { type: 'key', id }).matchOn).toBe('exposed')
    expect(filterOf(draft, { type: 'all' }).matchOn).toBe('upstream')
  })

  it('of a stored rule is that rule', () => {
    const { pattern, isRegex, matchOn, action, enabled, kinds } = stored('x', 'p.*')
    expect(filterOf(draftOf(stored('x', 'p.*')), { type: 'all' })).toEqual({
      pattern,
      isRegex,
      matchOn,
      action,
      enabled,
      kinds,
    })
  })

  it('is previewed in its place among its owner’s, a new one behind the last', () => {
    const rules = [stored('x', 'a'), stored('y', 'b')]
    const patterns = (id?: string) =>
      previewOf('filter', { type: 'all' }, rules, emptyDraft('new'), id).filters?.map(
        ({ pattern }) => pattern,
      )
    expect(patterns('x')).toEqual(['new', 'b'])
    expect(patterns()).toEqual(['a', 'b', 'new'])
  })
})

describe('an owner in a URL', () => {
  it('comes back as it was', () => {
    for (const owner of [{ type: 'all' }, { type: 'key', id }, { type: 'upstream', id }] as const) {
      expect(parseOwner(ownerText(owner))).toEqual(owner)
    }
    for (const text of ['', 'key', 'key:x', 'nobody:' + id]) expect(parseOwner(text)).toBeUndefined()
  })
})
