// Whose rule it is, and how that stands in a URL: `all`, `upstream:ID`, `key:ID`.
import type { AliasRule } from '@/api/types'

export type Owner = AliasRule['owner']

export const ownerText = ({ type, id }: Owner): string => (type === 'all' || !id ? 'all' : `${type}:${id}`)

/** Nothing for a text that names nobody. */
export function parseOwner(text: string): Owner | undefined {
  if (text === 'all') return { type: 'all' }
  const found = /^(upstream|key):([0-9a-f-]{36})$/.exec(text)
  return found ? { type: found[1] as 'upstream' | 'key', id: found[2] } : undefined
}
