// Where a reference within a schema's document leads.
import { isObject } from './json'
import type { Json } from './json'
import { CannotShow } from './reasons'

/** The schema that `reference` names in `root`: by a pointer (`#/$defs/a`) or an anchor (`#a`). */
export function target(root: Json, reference: unknown): unknown {
  if (typeof reference !== 'string') throw new CannotShow('notSchema')
  if (!reference.startsWith('#')) throw new CannotShow('foreignRef')
  const fragment = decoded(reference.slice(1))
  const found =
    fragment === '' || fragment.startsWith('/') ? pointed(root, fragment) : anchored(root, fragment)
  if (found === undefined) throw new CannotShow('lostRef')
  return found
}

/** The last part of a reference: what its author calls what it leads to. */
export function nameOf(reference: unknown): string | undefined {
  return typeof reference === 'string' ? tokens(decoded(reference.replace(/^#/, ''))).at(-1) : undefined
}

function pointed(root: Json, pointer: string): unknown {
  return tokens(pointer).reduce<unknown>((at, token) => {
    if (Array.isArray(at)) return at[Number(token)]
    return isObject(at) && Object.hasOwn(at, token) ? at[token] : undefined
  }, root)
}

/** Anchors are looked for where definitions are kept, and nowhere else. */
const anchored = (root: Json, anchor: string): unknown =>
  [root.$defs, root.definitions]
    .flatMap((definitions) => (isObject(definitions) ? Object.values(definitions) : []))
    .find((one) => isObject(one) && one.$anchor === anchor)

const tokens = (pointer: string) =>
  pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))

function decoded(fragment: string): string {
  try {
    return decodeURIComponent(fragment)
  } catch {
    throw new CannotShow('lostRef')
  }
}
