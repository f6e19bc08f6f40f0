// What an item says of its own behaviour. Hints by whoever wrote it: shown as such, believed by nobody.

export interface Annotation {
  key: string
  value: string
  /** It may destroy something. */
  isGrave: boolean
}

const MEMBERS_MAX = 32 // A definition may hold anything; nobody reads more.

export function annotationsOf(definition: Record<string, unknown>): Annotation[] {
  const given = definition.annotations
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return []
  return Object.entries(given)
    .filter(([key]) => key !== 'title')
    .slice(0, MEMBERS_MAX)
    .map(([key, value]) => ({
      key,
      value: typeof value === 'string' ? value : JSON.stringify(value),
      isGrave: key === 'destructiveHint' && value === true,
    }))
}
