// `oneOf` and `anyOf`: a choice of values where each alternative is one, else a choice of shapes. Null among them
// makes the rest nullable, and alternatives that what stands beside them rules out are none.
import { flatten } from './flat'
import type { Flat, Type } from './flat'
import { isObject } from './json'
import { merge } from './merge'
import { deeper, isOf, labelOf, once, orRaw, raw, said, wordless } from './model'
import type { ChoiceField, Field, Option, Place, Shape } from './model'
import { CannotShow } from './reasons'
import { nameOf } from './references'

/** How many alternatives are offered. */
export const ALTERNATIVES_MAX = 50
/** How many names of members make the name of a shape that has none. */
const NAMES_MAX = 3

type Make = (flat: Flat, place: Place) => Field

/** The field for a flat schema that has alternatives: the first list of them, with the others left to its shapes. */
export function alternativesOf(flat: Flat, place: Place, fieldOf: Make): Field {
  const [first = [], ...others] = flat.alternatives
  if (first.length > ALTERNATIVES_MAX) throw new CannotShow('tooMany')
  const values = constants(first, flat)
  if (values) return { ...said(flat), kind: 'choice', options: values } satisfies ChoiceField
  const base = { ...flat, alternatives: others }
  const isNullable = first.some(isNull) && isOf(null, flat.types)
  const shapes = first.filter((one) => !isNull(one)).flatMap((one) => shapeOf(base, one, place, fieldOf))
  const [only, ...more] = shapes
  if (only && more.length > 0) return { ...said(flat), kind: 'shapes', isNullable, shapes }
  if (!only && !isNullable) throw new CannotShow('nothing')
  const field = only?.field() ?? fieldOf({ ...base, alternatives: [], types: ['null'] }, place)
  // One way is no choice: what is said around it is said of it.
  return { ...field, ...wordsOf(flat, field), isNullable: isNullable || field.isNullable }
}

const wordsOf = (flat: Flat, field: Field) => ({
  title: flat.title ?? field.title,
  description: flat.description ?? field.description,
  initial: flat.initial ?? field.initial,
})

/** No shape for what can't be with what stands beside it. */
function shapeOf(base: Flat, alternative: unknown, place: Place, fieldOf: Make): Shape[] {
  try {
    const alone = flatten([alternative], place.root)
    const whole = merge(alone, wordless(base))
    // A level further in, since an alternative may lead to itself.
    const field = once(() => orRaw(() => fieldOf(whole, deeper(place)), whole.types))
    return [{ ...naming(alternative, alone, whole), field }]
  } catch (error) {
    if (!(error instanceof CannotShow)) throw error
    const { reason } = error
    const name = isObject(alternative) ? nameOf(alternative.$ref) : undefined
    return reason === 'nothing' ? [] : [{ name, field: once(() => raw({}, reason)) }]
  }
}

/** What to call a shape: its title, what a reference calls it, what tells it from the others, or its type. */
function naming(alternative: unknown, alone: Flat, whole: Flat): { name?: string; type?: Type } {
  const type = whole.types?.find((one) => one !== 'null')
  const referred = isObject(alternative) ? nameOf(alternative.$ref) : undefined
  const name = alone.title ?? referred ?? marked(alone) ?? needed(alone)
  return { name, type: type ?? (alone.properties.size > 0 ? 'object' : undefined) }
}

function marked({ properties }: Flat): string | undefined {
  for (const [schema] of properties.values()) {
    if (isObject(schema) && 'const' in schema) return labelOf(schema.const)
  }
  return undefined
}

const needed = ({ required, properties }: Flat): string | undefined => {
  const names = required.size > 0 ? [...required] : [...properties.keys()]
  return names.length > 0 ? names.slice(0, NAMES_MAX).join(', ') : undefined
}

/** The alternatives as values, if each is one. */
function constants(alternatives: unknown[], { types }: Flat): Option[] | undefined {
  const options: Option[] = []
  for (const one of alternatives) {
    const value = valueOf(one)
    if (!value) return undefined
    const title = isObject(one) && typeof one.title === 'string' ? one.title : ''
    if (isOf(value[0], types)) options.push({ value: value[0], label: title || labelOf(value[0]) })
  }
  return options.length > 0 && options.some(({ value }) => value !== null) ? options : undefined
}

function valueOf(schema: unknown): [unknown] | undefined {
  if (!isObject(schema)) return undefined
  if ('const' in schema) return [schema.const]
  if (Array.isArray(schema.enum) && schema.enum.length === 1) return [schema.enum[0]]
  return schema.type === 'null' ? [null] : undefined
}

const isNull = (schema: unknown) => {
  const value = valueOf(schema)
  return value !== undefined && value[0] === null
}
