// Small questions about JSON values.

export type Json = Record<string, unknown>

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** One text for all ways to write the same value: members by name. */
export const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  ) ?? ''

export const same = (one: unknown, other: unknown) => canonical(one) === canonical(other)

/** A JSON pointer (RFC 6901) to a member or an item of what `pointer` points to. */
export const below = (pointer: string, token: string | number) =>
  `${pointer}/${String(token).replaceAll('~', '~0').replaceAll('/', '~1')}`

export const pretty = (value: unknown) => JSON.stringify(value, null, 2) ?? ''
