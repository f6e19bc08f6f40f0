// What the form for a key holds, and how it becomes the body of the REST API.
import type { ApiKey, NewApiKey } from '@/api/types'

/** `keep` stands only in the form of a key that has an end. */
export const EXPIRIES = ['keep', 'never', '7', '30', '90', '365'] as const
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
  quotaPerDay: string
  quotaPerMonth: string
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
  quotaPerDay: '',
  quotaPerMonth: '',
})

export const draftOf = (key: ApiKey): Draft => ({
  name: key.name,
  expiry: key.expiresAt ? 'keep' : 'never',
  mode: key.mode,
  isLimited: key.upstreamIds != null,
  upstreamIds: key.upstreamIds ?? [],
  allowedCidrs: key.allowedCidrs.join('\n'),
  limit: key.rateLimit ? String(key.rateLimit.limit) : '',
  windowS: String(key.rateLimit?.windowS ?? 60),
  quotaPerDay: String(key.quotaPerDay ?? ''),
  quotaPerMonth: String(key.quotaPerMonth ?? ''),
})

const DAY_MS = 86_400_000

const countOf = (typed: string) => (typed === '' ? null : Number(typed))
const endOf = (days: string, now: number) =>
  days === 'never' ? null : new Date(now + Number(days) * DAY_MS).toISOString()

export function bodyOf(draft: Draft, now: number): NewApiKey {
  return {
    name: draft.name.trim(),
    ...(draft.expiry === 'keep' ? {} : { expiresAt: endOf(draft.expiry, now) }),
    mode: draft.mode,
    upstreamIds: draft.isLimited ? draft.upstreamIds : null,
    allowedCidrs: draft.allowedCidrs.split(/[\s,，]+/).filter(Boolean),
    rateLimit: draft.limit === '' ? null : { limit: Number(draft.limit), windowS: Number(draft.windowS) },
    quotaPerDay: countOf(draft.quotaPerDay),
    quotaPerMonth: countOf(draft.quotaPerMonth),
  }
}
