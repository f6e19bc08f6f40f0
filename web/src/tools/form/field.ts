// The fields of a form for a tool's arguments, out of its schema. Fields within fields are made when they are asked
// for, so that a schema that contains itself, or is huge, costs what is looked at.
import { alternativesOf } from './alternatives'
import { empty, flatten } from './flat'
import type { Flat, Limits, Type } from './flat'
import { isObject } from './json'
import { merge } from './merge'
import { deeper, isOf, labelOf, once, orRaw, raw, said, wordless } from './model'
import type {
  ChoiceField,
  Field,
  ListField,
  Member,
  Place,
  RawField,
  Rest,
  ShapesField,
  TextField,
} from './model'
import { CannotShow } from './reasons'

/** How many members of an object get controls. */
export const MEMBERS_MAX = 300
/** A text that may be longer than this gets room for several lines. */
const LINE_CHARS_MAX = 80

/** The form for a tool's arguments, which are an object whatever else its schema says. */
export function formOf(schema: unknown): Field {
  if (!isObject(schema)) return raw({}, 'notSchema')
  return conjunction([schema, { type: 'object' }], { root: schema, depth: 0 })
}

/** A field for what all of `schemas` ask for. */
export function conjunction(schemas: unknown[], place: Place): Field {
  return orRaw(() => fieldOf(flatten(schemas, place.root), place))
}

/** The field for a flat schema. */
export function fieldOf(flat: Flat, place: Place): Field {
  if (flat.options) return choice(flat, flat.options)
  if (flat.alternatives.length > 0) return alternativesOf(flat, place, fieldOf)
  const types = flat.types ?? typesBy(flat)
  if (types.length === 0) return raw(flat, 'anything')
  const [type, ...more] = types.filter(
    (one) => one !== 'null' && !(one === 'integer' && types.includes('number')),
  )
  if (type === undefined) return choice(flat, [null])
  const isNullable = types.includes('null')
  if (more.length > 0) return { ...shapesByType(flat, [type, ...more], place), isNullable }
  const field = orRaw(() => ofType(flat, type, place), [type])
  return { ...field, ...said(flat), isNullable }
}

function ofType(flat: Flat, type: Type, place: Place): Field {
  switch (type) {
    case 'object':
      return object(flat, place)
    case 'array':
      return list(flat, place)
    case 'boolean':
      return { ...said(flat), kind: 'flag' }
    case 'string':
      return text(flat)
    default:
      return { ...said(flat), kind: 'number', isWhole: type === 'integer', limits: flat.limits }
  }
}

function text(flat: Flat): TextField {
  const { format = '', limits } = flat
  // Most texts of tools are short and say no length: Enter sends them.
  const isLong = format === '' && limits.patterns.length === 0 && (limits.maxLength ?? 0) > LINE_CHARS_MAX
  return { ...said(flat), kind: 'text', format, isLong, limits }
}

/** What is chosen from is of the types that may stand there. */
function choice(flat: Flat, options: unknown[]): ChoiceField {
  const allowed = options.filter((option) => isOf(option, flat.types))
  if (allowed.length === 0) throw new CannotShow('nothing')
  return {
    ...said(flat),
    kind: 'choice',
    options: allowed.map((value) => ({ value, label: labelOf(value) })),
  }
}

function object(flat: Flat, place: Place): Field {
  const inner = deeper(place)
  const unknown = [...flat.required].filter((name) => !flat.properties.has(name))
  if (flat.additional === false && unknown.length > 0) throw new CannotShow('nothing')
  const named: [string, unknown[]][] = [
    ...flat.properties,
    ...unknown.map((name): [string, unknown[]] => [name, [flat.additional ?? true]]),
    ...[...flat.perhaps].flatMap(([name, schemas]): [string, unknown[]][] =>
      flat.properties.has(name) || flat.required.has(name) || flat.additional === false
        ? []
        : [[name, [schemas.length === 1 ? schemas[0] : { anyOf: schemas }]]],
    ),
  ]
  if (named.length > MEMBERS_MAX) throw new CannotShow('tooMany')
  const members = named.flatMap(([name, schemas]): Member[] => {
    const isRequired = flat.required.has(name)
    if (schemas.includes(false)) {
      if (isRequired) throw new CannotShow('nothing')
      return []
    }
    return [{ name, isRequired, field: once(() => conjunction(schemas, inner)) }]
  })
  const rest = restOf(flat, inner)
  const isOpen = flat.additional === undefined || flat.additional === true
  if (members.length === 0 && isOpen && flat.patterned.length === 0 && place.depth > 0) {
    throw new CannotShow('anything')
  }
  const sorted = [...members.filter((one) => one.isRequired), ...members.filter((one) => !one.isRequired)]
  return { ...said(flat), kind: 'object', members: sorted, rest, limits: flat.limits }
}

function restOf({ additional, patterned, namePatterns }: Flat, place: Place): Rest | undefined {
  const [[pattern, schema] = [], ...more] = patterned
  if (pattern === undefined) {
    if (additional === false) return undefined
    const item = once(() => conjunction([additional ?? true], place))
    return { isOffered: additional !== undefined, namePatterns, item }
  }
  const isOne = more.length === 0 && (additional === undefined || additional === false)
  return isOne
    ? {
        isOffered: true,
        namePatterns: [...namePatterns, pattern],
        item: once(() => conjunction([schema], place)),
      }
    : { isOffered: true, namePatterns, item: once(() => raw({}, 'patterns')) }
}

function list(flat: Flat, place: Place): ListField | RawField {
  const isClosed = flat.items.includes(false)
  const most = flat.limits.maxItems ?? Infinity
  const count = Math.min(most, flat.prefix.length)
  if (flat.items.length === 0 && count === 0 && most > 0) throw new CannotShow('anything')
  if (count > MEMBERS_MAX) throw new CannotShow('tooMany')
  const inner = deeper(place)
  const prefix = flat.prefix.slice(0, count).map((schemas) => once(() => conjunction(schemas, inner)))
  const item = once(() => conjunction(flat.items, inner))
  const limits = isClosed ? { ...flat.limits, maxItems: count } : flat.limits
  return { ...said(flat), kind: 'list', prefix, item, limits }
}

function shapesByType(flat: Flat, types: Type[], place: Place): ShapesField {
  const shapes = types.map((type) => ({
    type,
    field: once(() =>
      orRaw(() => fieldOf(merge(wordless(flat), { ...empty(), types: [type] }), place), [type]),
    ),
  }))
  return { ...said(flat), kind: 'shapes', shapes }
}

/** What a schema that says no type is about, by the keywords in it. */
function typesBy(flat: Flat): Type[] {
  const { limits, properties, required, patterned, perhaps } = flat
  const has = (...names: (keyof Limits)[]) => names.some((name) => typeof limits[name] === 'number')
  const isMap = flat.additional !== undefined && flat.additional !== true
  if (properties.size + required.size + patterned.length + perhaps.size > 0 || isMap) return ['object']
  if (flat.items.length + flat.prefix.length > 0 || has('minItems', 'maxItems')) return ['array']
  if (limits.patterns.length > 0 || flat.format !== undefined || has('minLength', 'maxLength'))
    return ['string']
  const isNumber =
    limits.multiples.length > 0 || has('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')
  return isNumber ? ['number'] : []
}
