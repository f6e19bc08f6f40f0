// What a form is made of: a field for each part of a schema, and what all of them have in common.
import type { Flat, Limits, Type } from './flat'
import type { Json } from './json'
import { CannotShow } from './reasons'
import type { Reason } from './reasons'

export interface Said {
  title: string
  description: string
  isNullable: boolean
  /** Its default. */
  initial?: { value: unknown }
}

export interface Member {
  name: string
  isRequired: boolean
  field: () => Field
}

/** Members by names that the schema doesn't know. */
export interface Rest {
  /** The schema speaks of them. If it doesn't, they are shown where there are some. */
  isOffered: boolean
  namePatterns: string[]
  item: () => Field
}

export interface Shape {
  /** What its author calls it; nothing if it goes by its type. */
  name?: string
  type?: Type
  field: () => Field
}

export interface Option {
  value: unknown
  label: string
}

export type TextField = Said & { kind: 'text'; format: string; isLong: boolean; limits: Limits }
export type NumberField = Said & { kind: 'number'; isWhole: boolean; limits: Limits }
export type FlagField = Said & { kind: 'flag' }
export type ChoiceField = Said & { kind: 'choice'; options: Option[] }
export type ObjectField = Said & { kind: 'object'; members: Member[]; rest?: Rest; limits: Limits }
export type ListField = Said & {
  kind: 'list'
  /** What its first items are, where they differ from the others. */
  prefix: (() => Field)[]
  item: () => Field
  limits: Limits
}
export type ShapesField = Said & { kind: 'shapes'; shapes: Shape[] }
export type RawField = Said & { kind: 'raw'; reason: Reason; types?: Type[] }
export type Field =
  TextField | NumberField | FlagField | ChoiceField | ObjectField | ListField | ShapesField | RawField

/** How deep fields are nested at most. Deeper ones fit on no screen, and what contains itself has no end. */
export const DEPTH_MAX = 10
/** Where a field stands. */
export interface Place {
  root: Json
  depth: number
}

/** One level further in. */
export function deeper({ root, depth }: Place): Place {
  if (depth >= DEPTH_MAX) throw new CannotShow('tooDeep')
  return { root, depth: depth + 1 }
}

/** The same, with nothing said about it: where another field around it says so already. */
export const wordless = (flat: Flat): Flat => ({
  ...flat,
  title: undefined,
  description: undefined,
  initial: undefined,
})

export const said = ({ title = '', description = '', initial }: Partial<Flat>): Said => ({
  title,
  description,
  isNullable: false,
  initial,
})

export const raw = (flat: Partial<Flat>, reason: Reason): RawField => ({
  ...said(flat),
  kind: 'raw',
  reason,
  types: flat.types,
})

/** What has no controls is written as JSON. */
export function orRaw(make: () => Field, types?: Type[]): Field {
  try {
    return make()
  } catch (error) {
    if (error instanceof CannotShow) return raw({ types }, error.reason)
    throw error
  }
}

export const labelOf = (value: unknown) =>
  typeof value === 'string' && value !== '' ? value : JSON.stringify(value)

export function isOf(value: unknown, types?: Type[]): boolean {
  if (!types) return true
  if (value === null) return types.includes('null')
  if (Array.isArray(value)) return types.includes('array')
  if (typeof value === 'number') {
    return types.includes('number') || (types.includes('integer') && Number.isInteger(value))
  }
  return types.some((type) => type === typeof value)
}

/** Makes it when it is asked for the first time. */
export function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => (made ??= { value: make() }).value
}
