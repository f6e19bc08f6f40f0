// What the form for a key holds, and how it becomes the body of the REST API.
import type { NewApiKey } from '@/api/types'

export const EXPIRIES = ['never', '7', '30', '90', '365'] as const
export const MODES = ['inherit', 'full', 'smart'] as const

export interface Draft {
  name: string
  expiry: (typeof EXPIRIES)[number]
  mode: (typeof MODES)[number]
  isLimited: boolean
  upstreamIds: string[]
  allowedCidrs: string
  limit: string
  windowS: string
}

export const emptyDraft = (): Draft => ({
  name: '',
  expiry: 'never',
  mode: 'inherit',
  isLimited: false,
  upstreamIds: [],
  allowedCidrs: '',
  limit: '',
  windowS: '60',
})

const DAY_MS = 86_400_000

export function bodyOf(draft: Draft, now: number): NewApiKey {
  return {
    name: draft.name.trim(),
    expiresAt: draft.expiry === 'never' ? null : new Date(now + Number(draft.expiry) * DAY_MS).toISOString(),
    mode: draft.mode,
    upstreamIds: draft.isLimited ? draft.upstreamIds : null,
    allowedCidrs: draft.allowedCidrs.split(/[\s,，]+/).filter(Boolean),
    rateLimit: draft.limit === '' ? null : { limit: Number(draft.limit), windowS: Number(draft.windowS) },
  }
}
