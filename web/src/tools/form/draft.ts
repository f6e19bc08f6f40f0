// What stands in the controls of a field. A draft has the shape of its field.
import type { Field, ListField } from './model'

/** Whether it is among the arguments, and there as null. */
export type State = 'absent' | 'null' | 'given'

export interface Draft {
  state: State
  /** Of what is written in one control; of a choice and a flag, the value as JSON. */
  text: string
  /** In the order of the field's members. */
  members: Draft[]
  items: Item[]
  /** Members that the field doesn't know. */
  rows: Row[]
  /** The shape that is chosen, and what was filled into each. */
  shape: number
  shapes: Record<number, Draft>
}

/** An item keeps its id when it moves, so that its controls do. */
export interface Item {
  id: number
  draft: Draft
}

export interface Row extends Item {
  name: string
}

let lastId = 0
export const nextId = () => (lastId += 1)

export const draftOf = (given: Partial<Draft> = {}): Draft => ({
  state: 'absent',
  text: '',
  members: [],
  items: [],
  rows: [],
  shape: 0,
  shapes: {},
  ...given,
})

export const isCompound = ({ kind }: Field) => kind === 'object' || kind === 'list' || kind === 'shapes'

/** Of a list, the field of one item. */
export const itemField = (field: ListField, index: number): Field => (field.prefix[index] ?? field.item)()
