// What the audit log can be narrowed to.
export const OUTCOMES = ['success', 'failure'] as const
export const ACTORS = ['admin', 'key', 'system'] as const
export const KINDS = [
  'upstream',
  'tool',
  'prompt',
  'resource',
  'alias_rule',
  'filter_rule',
  'key',
  'settings',
  'admin',
  'xiaozhi',
  'access',
  'audit',
] as const

/** The first moment of a day, as the reader's clock has it; of what is no day, none. */
export function dayOf(text: string): string | undefined {
  const day = /^\d{4}-\d{2}-\d{2}$/.test(text) ? new Date(`${text}T00:00:00`) : undefined
  return day && !Number.isNaN(day.getTime()) ? day.toISOString() : undefined
}

/** The first moment that is no longer in it. */
export function dayAfter(text: string): string | undefined {
  const first = dayOf(text)
  if (!first) return undefined
  const day = new Date(first)
  day.setDate(day.getDate() + 1)
  return day.toISOString()
}
