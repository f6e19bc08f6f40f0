// From what stands in the controls to the arguments, and what is wrong with it. What is left empty and needn't be
// there is absent.
import { checkNumber, checkText, numberOf } from './checks'
import type { Complaint } from './checks'
import { itemField } from './draft'
import type { Draft } from './draft'
import { below, canonical } from './json'
import { isOf } from './model'
import type { Field, ListField, ObjectField } from './model'
import { meets } from './patterns'

/** `at` is a pointer into the arguments; of a row's name, that of its object with the row's id after `#`. */
export type Problem = Complaint & {
  at: string
  /** Nothing of it is among the arguments. */
  isLeftOut?: boolean
}

export interface Built {
  /** Absent of what isn't there. */
  value?: unknown
  problems: Problem[]
}

export const nameAt = (at: string, id: number) => `${at}#${id}`

export function build(field: Field, draft: Draft, isRequired = true): Built {
  const problems: Problem[] = []
  const value = valueOf(field, draft, isRequired, '', problems)
  return value === ABSENT ? { problems } : { value, problems }
}

const ABSENT = Symbol('absent')

function valueOf(field: Field, draft: Draft, isRequired: boolean, at: string, problems: Problem[]): unknown {
  const complain = (complaint: Complaint | undefined) => {
    if (complaint) problems.push({ ...complaint, at })
  }
  const leftOut = (complaint: Complaint): typeof ABSENT => {
    problems.push({ ...complaint, at, isLeftOut: true })
    return ABSENT
  }
  if (draft.state === 'null') return null
  if (draft.state === 'absent') return isRequired ? leftOut({ code: 'missing' }) : ABSENT
  switch (field.kind) {
    case 'text':
      complain(checkText(draft.text, field))
      return draft.text
    case 'number': {
      const number = numberOf(draft.text)
      if (number === undefined) return leftOut({ code: 'notNumber' })
      complain(checkNumber(number, field))
      return number
    }
    case 'flag':
    case 'choice':
      return JSON.parse(draft.text) as unknown
    case 'raw': {
      const parsed = parse(draft.text)
      if (!parsed) return leftOut({ code: 'notJson' })
      complain(isOf(parsed.value, field.types) ? undefined : { code: 'notType' })
      return parsed.value
    }
    case 'object':
      return object(field, draft, at, problems)
    case 'list':
      return list(field, draft, at, problems)
    case 'shapes': {
      const shape = field.shapes[draft.shape]
      const chosen = draft.shapes[draft.shape]
      return shape && chosen
        ? valueOf(shape.field(), chosen, true, at, problems)
        : leftOut({ code: 'missing' })
    }
  }
}

function object(field: ObjectField, draft: Draft, at: string, problems: Problem[]): unknown {
  const entries: [string, unknown][] = []
  for (const [index, { name, isRequired, field: make }] of field.members.entries()) {
    const member = draft.members[index]
    if (!member) continue
    const value = valueOf(make(), member, isRequired, below(at, name), problems)
    if (value !== ABSENT) entries.push([name, value])
  }
  const names = new Set(field.members.map(({ name }) => name))
  for (const { id, name, draft: row } of draft.rows) {
    const complaint = aboutName(name, names, field.rest?.namePatterns ?? [])
    if (complaint)
      problems.push({ ...complaint, at: nameAt(at, id), isLeftOut: complaint.code === 'nameTwice' })
    const value = field.rest ? valueOf(field.rest.item(), row, true, below(at, name), problems) : ABSENT
    if (value !== ABSENT && !names.has(name)) entries.push([name, value])
    names.add(name)
  }
  const { minProperties, maxProperties } = field.limits
  const count = entries.length
  if (minProperties !== undefined && count < minProperties)
    problems.push({ code: 'fewMembers', limit: minProperties, at })
  if (maxProperties !== undefined && count > maxProperties)
    problems.push({ code: 'manyMembers', limit: maxProperties, at })
  return Object.fromEntries(entries) // Defines members: one that is called `__proto__` is no more than that.
}

function aboutName(name: string, taken: Set<string>, patterns: string[]): Complaint | undefined {
  if (taken.has(name)) return { code: 'nameTwice' }
  if (name === '') return { code: 'nameMissing' }
  const pattern = patterns.find((one) => !meets(name, one))
  return pattern === undefined ? undefined : { code: 'namePattern', limit: pattern }
}

function list(field: ListField, draft: Draft, at: string, problems: Problem[]): unknown {
  const { minItems, maxItems, isUnique } = field.limits
  const values = draft.items
    .map(({ draft: item }, index) => valueOf(itemField(field, index), item, true, below(at, index), problems))
    .filter((value) => value !== ABSENT)
  const count = draft.items.length
  if (minItems !== undefined && count < minItems) problems.push({ code: 'fewItems', limit: minItems, at })
  if (maxItems !== undefined && count > maxItems) problems.push({ code: 'manyItems', limit: maxItems, at })
  if (isUnique && new Set(values.map(canonical)).size < values.length) problems.push({ code: 'repeated', at })
  return values
}

export function parse(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}
