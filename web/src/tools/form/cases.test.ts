// The schemas of cases.json, written for the purpose: what somebody does in the form makes exactly the arguments that
// are expected, and those make the same form again.
import { describe, expect, it } from 'vitest'
import { build } from './build'
import cases from './cases.json'
import type { Draft } from './draft'
import { itemField } from './draft'
import { addItem, addRow, blank, choose, moveItem, removeItem, turn, write } from './edit'
import { formOf } from './field'
import type { Field } from './model'
import type { State } from './draft'
import { read } from './read'

interface Found {
  field: Field
  draft: Draft
  isRequired: boolean
}

const tokensOf = (pointer: string) =>
  pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))

/** Where a pointer into the arguments leads in a form; shapes are looked through. */
function find(at: Found, [token, ...further]: string[]): Found {
  if (token === undefined) return at
  const { field, draft } = at
  if (field.kind === 'shapes') {
    return find(
      { field: field.shapes[draft.shape]!.field(), draft: draft.shapes[draft.shape]!, isRequired: true },
      [token, ...further],
    )
  }
  if (field.kind === 'list') {
    const index = Number(token)
    return find(
      { field: itemField(field, index), draft: draft.items[index]!.draft, isRequired: true },
      further,
    )
  }
  if (field.kind !== 'object') throw new Error(`${field.kind} has no ${token}`)
  const index = field.members.findIndex(({ name }) => name === token)
  const member = field.members[index]
  if (member) {
    const { isRequired } = member
    return find({ field: member.field(), draft: draft.members[index]!, isRequired }, further)
  }
  const row = draft.rows.find(({ name }) => name === token)!
  return find({ field: field.rest!.item(), draft: row.draft, isRequired: true }, further)
}

/** What stands at the end of a pointer; of a choice of shapes, the shape that is chosen. */
function control({ field, draft, isRequired }: Found): Found {
  if (field.kind !== 'shapes') return { field, draft, isRequired }
  return control({ field: field.shapes[draft.shape]!.field(), draft: draft.shapes[draft.shape]!, isRequired })
}

function act(form: Found, [verb, target, value]: string[]): void {
  const [path, row] = target!.split('#')
  const tokens = tokensOf(path!)
  const found = find(form, tokens)
  const index = Number(tokens.at(-1))
  const owner = () => control(find(form, tokens.slice(0, -1)))
  switch (verb) {
    case 'write':
      return write(control(found).draft, value!)
    case 'state':
      return turn(found.field, found.draft, value as State)
    case 'choose': {
      const shapes = found.field.kind === 'shapes' ? found.field.shapes : []
      const shape = shapes.findIndex(({ name, type }) => (name ?? type) === value)
      expect(shape, `${value} among ${shapes.map(({ name, type }) => name ?? type).join()}`).not.toBe(-1)
      return choose(found.field, found.draft, shape)
    }
    case 'add': {
      const { field, draft } = control(found)
      if (field.kind === 'list') return addItem(field, draft)
      if (field.kind === 'object') return addRow(field, draft)
      throw new Error(`nothing can be added to ${field.kind}`)
    }
    case 'name':
      control(found).draft.rows[Number(row)]!.name = value!
      return
    case 'remove':
      return removeItem(owner().draft, index, owner().isRequired)
    case 'up':
    case 'down':
      return moveItem(owner().draft, index, verb === 'up' ? -1 : 1)
    default:
      throw new Error(`unknown step ${verb}`)
  }
}

const begin = (schema: unknown): Found => {
  const field = formOf(schema)
  return { field, draft: blank(field, true), isRequired: true }
}

describe('schemas', () => {
  it('are thirty at least, each with a name of its own', () => {
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
    expect(cases.length).toBeGreaterThanOrEqual(30)
  })

  it.each(cases)('$name', ({ schema, steps, arguments: expected, raw = {} }) => {
    const form = begin(schema)
    expect(form.field.kind).not.toBe('raw')
    for (const step of steps) act(form, step)
    const built = build(form.field, form.draft)
    expect(built.problems).toEqual([])
    expect(JSON.stringify(built.value)).toBe(JSON.stringify(inOrder(expected, built.value)))
    for (const [pointer, reason] of Object.entries(raw as Record<string, string>)) {
      expect(find(form, tokensOf(pointer)).field).toMatchObject({ kind: 'raw', reason })
    }
    const again = read(form.field, built.value)
    expect(again).toHaveProperty('draft')
    if ('draft' in again) expect(build(form.field, again.draft)).toEqual(built)
  })
})

/** The expected value with its members in the order of the form, which puts what is required first. */
function inOrder(value: unknown, like: unknown): unknown {
  if (Array.isArray(value) && Array.isArray(like)) return value.map((one, index) => inOrder(one, like[index]))
  if (typeof value !== 'object' || value === null || typeof like !== 'object' || like === null) return value
  const entries = Object.entries(value).sort(
    ([a], [b]) => Object.keys(like).indexOf(a) - Object.keys(like).indexOf(b),
  )
  const theirs = new Map(Object.entries(like))
  return Object.fromEntries(entries.map(([name, one]) => [name, inOrder(one, theirs.get(name))]))
}
