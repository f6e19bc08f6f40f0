// Two flat schemas that both hold, as one.
import type { Flat, Limits, Type } from './flat'
import { same } from './json'
import { CannotShow } from './reasons'

/** Of words about it, those of `one` are taken. */
export function merge(one: Flat, other: Flat): Flat {
  return {
    title: one.title ?? other.title,
    description: one.description ?? other.description,
    format: one.format ?? other.format,
    initial: one.initial ?? other.initial,
    types: commonTypes(one.types, other.types),
    options: commonOptions(one.options, other.options),
    properties: commonProperties(one, other),
    required: new Set([...one.required, ...other.required]),
    additional: both(one.additional, other.additional),
    patterned: [...one.patterned, ...other.patterned],
    namePatterns: [...one.namePatterns, ...other.namePatterns],
    items: [...one.items, ...other.items],
    prefix: Array.from({ length: Math.max(one.prefix.length, other.prefix.length) }, (_, index) => [
      // Where one of them has no place for an item, it says the same of it as of all further ones.
      ...(one.prefix[index] ?? one.items),
      ...(other.prefix[index] ?? other.items),
    ]),
    alternatives: [...one.alternatives, ...other.alternatives],
    perhaps: joined(one.perhaps, other.perhaps),
    limits: commonLimits(one.limits, other.limits),
  }
}

function commonTypes(one?: Type[], other?: Type[]): Type[] | undefined {
  if (!one || !other) return one ?? other
  const common = one.flatMap((type): Type[] => {
    if (other.includes(type)) return [type]
    if (type === 'integer' && other.includes('number')) return ['integer']
    return type === 'number' && other.includes('integer') ? ['integer'] : []
  })
  if (common.length === 0) throw new CannotShow('nothing')
  return [...new Set(common)]
}

function commonOptions(one?: unknown[], other?: unknown[]): unknown[] | undefined {
  if (!one || !other) return one ?? other
  const common = one.filter((option) => other.some((theirs) => same(option, theirs)))
  if (common.length === 0) throw new CannotShow('nothing')
  return common
}

/** A member that only one of them names is to the other one of its additional members. */
function commonProperties(one: Flat, other: Flat): Flat['properties'] {
  const said = ({ properties, additional, patterned }: Flat, name: string) =>
    properties.get(name) ?? (additional === undefined || patterned.length > 0 ? [] : [additional])
  const names = new Set([...one.properties.keys(), ...other.properties.keys()])
  return new Map([...names].map((name) => [name, [...said(one, name), ...said(other, name)]]))
}

function both(one: unknown, other: unknown): unknown {
  if (one === undefined || one === true) return other ?? one
  if (other === undefined || other === true) return one
  return one === false || other === false ? false : { allOf: [one, other] }
}

function joined(one: Map<string, unknown[]>, other: Map<string, unknown[]>): Map<string, unknown[]> {
  const all = new Map(one)
  for (const [name, schemas] of other) all.set(name, [...(all.get(name) ?? []), ...schemas])
  return all
}

function commonLimits(one: Limits, other: Limits): Limits {
  const most = (a?: number, b?: number) => (a === undefined || b === undefined ? (a ?? b) : Math.max(a, b))
  const least = (a?: number, b?: number) => (a === undefined || b === undefined ? (a ?? b) : Math.min(a, b))
  return {
    minimum: most(one.minimum, other.minimum),
    maximum: least(one.maximum, other.maximum),
    exclusiveMinimum: most(one.exclusiveMinimum, other.exclusiveMinimum),
    exclusiveMaximum: least(one.exclusiveMaximum, other.exclusiveMaximum),
    minLength: most(one.minLength, other.minLength),
    maxLength: least(one.maxLength, other.maxLength),
    minItems: most(one.minItems, other.minItems),
    maxItems: least(one.maxItems, other.maxItems),
    minProperties: most(one.minProperties, other.minProperties),
    maxProperties: least(one.maxProperties, other.maxProperties),
    multiples: [...one.multiples, ...other.multiples],
    patterns: [...one.patterns, ...other.patterns],
    isUnique: one.isUnique || other.isUnique,
  }
}
