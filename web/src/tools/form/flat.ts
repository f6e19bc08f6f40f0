// What a schema (2020-12) says once its references are followed and its parts that all hold are put together. What
// only narrows the values that a control can make (`not`, `contains`, `if`) is left to whoever checks them.
import { isObject } from './json'
import type { Json } from './json'
import { merge } from './merge'
import { CannotShow } from './reasons'
import { target } from './references'

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const
export type Type = (typeof TYPES)[number]

export interface Limits {
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  minProperties?: number
  maxProperties?: number
  multiples: number[]
  patterns: string[]
  isUnique: boolean
}

/** Lists of schemas stand for all of them at once, but for `alternatives` and `perhaps`. */
export interface Flat {
  title?: string
  description?: string
  format?: string
  /** Wrapped, since a default may be anything. */
  initial?: { value: unknown }
  /** All, if nothing is said. */
  types?: Type[]
  options?: unknown[]
  properties: Map<string, unknown[]>
  required: Set<string>
  /** Of members that no other keyword speaks of. */
  additional?: unknown
  patterned: [pattern: string, schema: unknown][]
  namePatterns: string[]
  items: unknown[]
  prefix: unknown[][]
  /** From each list one holds. */
  alternatives: unknown[][]
  /** Members that a condition may ask for: each is one of these. */
  perhaps: Map<string, unknown[]>
  limits: Limits
}

/** How many parts are put together to one: references can make a small document say very much. */
const PARTS_MAX = 500
/** How many references and parts may lead to one another: a longer way is a circle. */
const STEPS_MAX = 32

/** What all of `schemas` say together. */
export function flatten(schemas: unknown[], root: Json): Flat {
  const budget = { left: PARTS_MAX }
  return schemas.map((one) => flat(one, root, budget, 0)).reduce(merge, empty())
}

export const empty = (): Flat => ({
  properties: new Map(),
  required: new Set(),
  patterned: [],
  namePatterns: [],
  items: [],
  prefix: [],
  alternatives: [],
  perhaps: new Map(),
  limits: { multiples: [], patterns: [], isUnique: false },
})

function flat(schema: unknown, root: Json, budget: { left: number }, steps: number): Flat {
  if ((budget.left -= 1) < 0) throw new CannotShow('tooMany')
  if (steps > STEPS_MAX) throw new CannotShow('circle')
  if (schema === true) return empty()
  if (schema === false) throw new CannotShow('nothing')
  if (!isObject(schema)) throw new CannotShow('notSchema')
  if ('$dynamicRef' in schema || '$recursiveRef' in schema) throw new CannotShow('dynamicRef')
  const next = (one: unknown) => flat(one, root, budget, steps + 1)
  // What stands beside a reference comes first: its author knows more of this place.
  const parts = [
    ...('$ref' in schema ? [target(root, schema.$ref)] : []),
    ...(Array.isArray(schema.allOf) ? (schema.allOf as unknown[]) : []),
  ]
  const whole = parts.map(next).reduce(merge, own(schema))
  for (const branch of conditional(schema)) {
    for (const [name, schemas] of branched(branch, next)) {
      whole.perhaps.set(name, [...(whole.perhaps.get(name) ?? []), { allOf: schemas }])
    }
  }
  return whole
}

/** The schemas that hold only under a condition. */
function conditional({ then: holds, else: fails, dependentSchemas }: Json): unknown[] {
  const dependent = isObject(dependentSchemas) ? Object.values(dependentSchemas) : []
  return [holds, fails, ...dependent].filter(isObject)
}

/** What a condition asks for can't be shown: then the rest still can. */
function branched(branch: unknown, next: (schema: unknown) => Flat): Iterable<[string, unknown[]]> {
  try {
    const { properties, perhaps } = next(branch)
    return [...properties, ...perhaps]
  } catch (error) {
    if (error instanceof CannotShow) return []
    throw error
  }
}

/** What a schema says itself. */
function own(schema: Json): Flat {
  const { additionalItems, items, prefixItems, propertyNames } = schema
  const prefix = Array.isArray(prefixItems) ? prefixItems : Array.isArray(items) ? items : []
  const further = Array.isArray(items) ? additionalItems : items
  const types = typesOf(schema)
  return {
    ...empty(),
    title: text(schema.title),
    description: text(schema.description),
    format: text(schema.format),
    initial: 'default' in schema ? { value: schema.default } : undefined,
    types,
    options: 'const' in schema ? [schema.const] : Array.isArray(schema.enum) ? schema.enum : undefined,
    properties: new Map(
      Object.entries(isObject(schema.properties) ? schema.properties : {}).map(([name, one]) => [
        name,
        [one],
      ]),
    ),
    required: new Set(texts(schema.required)),
    additional: schema.additionalProperties,
    patterned: Object.entries(isObject(schema.patternProperties) ? schema.patternProperties : {}),
    namePatterns: isObject(propertyNames) ? texts([propertyNames.pattern]) : [],
    items: further === undefined ? [] : [further],
    prefix: (prefix as unknown[]).map((one) => [one]),
    alternatives: [schema.oneOf, schema.anyOf].filter(
      (one): one is unknown[] => Array.isArray(one) && one.length > 0,
    ),
    limits: limitsOf(schema),
  }
}

function typesOf({ type, nullable }: Json): Type[] | undefined {
  if (type === undefined) return undefined
  const types = [type].flat()
  if (!types.every((one): one is Type => TYPES.some((known) => known === one)))
    throw new CannotShow('notSchema')
  return nullable === true ? [...types, 'null'] : types
}

function limitsOf(schema: Json): Limits {
  const number = (name: string) => {
    const value = schema[name]
    return typeof value === 'number' && Number.isFinite(value) ? value : undefined
  }
  const multiple = number('multipleOf')
  return {
    minimum: number('minimum'),
    maximum: number('maximum'),
    exclusiveMinimum: number('exclusiveMinimum'),
    exclusiveMaximum: number('exclusiveMaximum'),
    minLength: number('minLength'),
    maxLength: number('maxLength'),
    minItems: number('minItems'),
    maxItems: number('maxItems'),
    minProperties: number('minProperties'),
    maxProperties: number('maxProperties'),
    multiples: multiple !== undefined && multiple > 0 ? [multiple] : [],
    patterns: texts([schema.pattern]),
    isUnique: schema.uniqueItems === true,
  }
}

const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
const texts = (value: unknown) =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : []
