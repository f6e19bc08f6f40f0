import { describe, expect, it } from 'vitest'
import { bodyOf, emptyDraft } from './draft'

const now = Date.parse('2026-01-01T00:00:00Z')

describe('bodyOf', () => {
  it('asks for no limit where none was set', () => {
    expect(bodyOf({ ...emptyDraft(), name: ' team ' }, now)).toEqual({
      name: 'team',
      expiresAt: null,
      mode: 'inherit',
      upstreamIds: null,
      allowedCidrs: [],
      rateLimit: null,
      quotaPerDay: null,
      quotaPerMonth: null,
    })
  })

  it('says which limits were set', () => {
    const draft = {
      ...emptyDraft(),
      expiry: '30' as const,
      isLimited: true,
      upstreamIds: ['a'],
      allowedCidrs: '10.0.0.0/8, ::1/128\n192.168.0.0/16',
      limit: '600',
    }
    expect(bodyOf(draft, now)).toMatchObject({
      expiresAt: '2026-01-31T00:00:00.000Z',
      upstreamIds: ['a'],
      allowedCidrs: ['10.0.0.0/8', '::1/128', '192.168.0.0/16'],
      rateLimit: { limit: 600, windowS: 60 },
    })
  })
})
