// What controls begin with, and what becomes of them by each thing that somebody does.
import { draftOf, isCompound, itemField, nextId } from './draft'
import type { Draft, Item, State } from './draft'
import type { Field, ListField, ObjectField } from './model'
import { read } from './read'

/** How many fields a form begins with at most; what is left out is there when somebody opens it. */
export const FIELDS_AT_ONCE_MAX = 500
/** How many items a list begins with at most, however many its schema asks for. */
export const ITEMS_AT_ONCE_MAX = 20

/** What a field begins with: its default, else what it can't be without, else nothing. */
export function blank(field: Field, isRequired: boolean, budget = { left: FIELDS_AT_ONCE_MAX }): Draft {
  budget.left -= 1
  const initial = field.initial && read(field, field.initial.value)
  if (initial && 'draft' in initial) return initial.draft
  if (!isRequired || budget.left <= 0) return draftOf()
  const only = field.kind === 'choice' && field.options.length === 1 ? field.options[0] : undefined
  if (only) return draftOf({ state: 'given', text: JSON.stringify(only.value) })
  return isCompound(field) ? opened(field, budget) : draftOf()
}

/** The same, with nothing in it but what has to be. */
export function opened(field: Field, budget = { left: FIELDS_AT_ONCE_MAX }): Draft {
  const draft = draftOf({ state: 'given' })
  if (field.kind === 'object') draft.members = membersOf(field, budget)
  if (field.kind === 'list') draft.items = itemsOf(field, budget)
  if (field.kind === 'shapes') choose(field, draft, 0, budget)
  return draft
}

/** Chooses a shape; what was filled into it before is there again. */
export function choose(field: Field, draft: Draft, shape: number, budget?: { left: number }): void {
  const chosen = field.kind === 'shapes' ? field.shapes[shape] : undefined
  if (!chosen) return
  draft.state = 'given'
  draft.shape = shape
  draft.shapes[shape] ??= blank(chosen.field(), true, budget)
}

export const newItem = (field: Field, budget?: { left: number }): Item => ({
  id: nextId(),
  draft: blank(field, true, budget),
})

const membersOf = (field: ObjectField, budget: { left: number }) =>
  field.members.map((member) => blank(member.field(), member.isRequired, budget))

function itemsOf(field: ListField, budget: { left: number }): Item[] {
  const count = Math.min(field.limits.minItems ?? field.prefix.length, ITEMS_AT_ONCE_MAX)
  return Array.from({ length: count }, (_, index) => newItem(itemField(field, index), budget))
}

/** A control that was emptied says nothing: neither null nor an empty text. */
export function write(draft: Draft, text: string): void {
  draft.text = text
  draft.state = text === '' ? 'absent' : 'given'
}

/** Puts it among the arguments, as null, or takes it out; what was filled into it comes back with it. */
export function turn(field: Field, draft: Draft, state: State): void {
  const isNew = draft.members.length + draft.items.length + draft.rows.length === 0
  if (state !== 'given' || !isNew || !isCompound(field)) draft.state = state
  else if (field.kind === 'shapes') choose(field, draft, draft.shape)
  else Object.assign(draft, opened(field))
}

export function addItem(field: ListField, draft: Draft): void {
  draft.state = 'given'
  draft.items.push(newItem(itemField(field, draft.items.length)))
}

/** The last item takes its list along, unless the list has to be there. */
export function removeItem(draft: Draft, index: number, isRequired: boolean): void {
  draft.items.splice(index, 1)
  if (draft.items.length === 0 && !isRequired) draft.state = 'absent'
}

export function moveItem(draft: Draft, index: number, by: number): void {
  const [item] = draft.items.splice(index, 1)
  if (item) draft.items.splice(index + by, 0, item)
}

export function addRow(field: ObjectField, draft: Draft): void {
  if (!field.rest) return
  draft.state = 'given'
  draft.rows.push({ ...newItem(field.rest.item()), name: '' })
}

/** Of what has nothing but rows the last one takes the whole along, unless it has to be there. */
export function removeRow(field: ObjectField, draft: Draft, index: number, isRequired: boolean): void {
  draft.rows.splice(index, 1)
  if (draft.rows.length === 0 && field.members.length === 0 && !isRequired) draft.state = 'absent'
}
