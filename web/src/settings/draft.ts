// The settings as a flat form, and the merge patch of what was changed in it.
export type Value = string | number | boolean | null
export type Groups = Record<string, Record<string, Value>>

export interface Field {
  group: string
  name: string
  /** As the gateway has it. */
  before: Value
}

export interface Change extends Field {
  after: Value
}

export const idOf = ({ group, name }: Pick<Field, 'group' | 'name'>) => `${group}.${name}`

export function fieldsOf(answer: Record<string, unknown>): Field[] {
  const groups = Object.entries(answer).filter(([group]) => group !== 'locked') as [string, Groups[string]][]
  return groups.flatMap(([group, values]) =>
    Object.entries(values).map(([name, before]) => ({ group, name, before })),
  )
}

/** What was typed, as the kind of value that stood there. Nothing typed brings the default back. */
export function valueOf(before: Value, typed: string | boolean): Value {
  if (typeof typed === 'boolean') return typed
  if (typed === '') return null
  return typeof before === 'string' || Number.isNaN(Number(typed)) ? typed : Number(typed)
}

export function changesOf(fields: Field[], typed: Record<string, string | boolean>): Change[] {
  return fields.flatMap((field) => {
    const after = valueOf(field.before, typed[idOf(field)] ?? '')
    return after === field.before ? [] : [{ ...field, after }]
  })
}

export function patchOf(changes: Change[]): Groups {
  const patch: Groups = {}
  for (const { group, name, after } of changes) patch[group] = { ...patch[group], [name]: after }
  return patch
}
