// From a value to what stands in the controls for it; or the place where the controls can't say it.
import { build } from './build'
import { draftOf, itemField, nextId } from './draft'
import type { Draft } from './draft'
import { below, isObject, pretty, same } from './json'
import { isOf } from './model'
import type { Field, ListField, ObjectField, ShapesField } from './model'

export type Misfit =
  /** A value of another type, or none of those that can be chosen. */
  | { at: string; why: 'value' }
  /** A member that the schema rules out. */
  | { at: string; why: 'member' }
  /** More than anybody fills in. */
  | { at: string; why: 'tooMuch' }

/** How many values are looked at, each way to read them counted: alternatives within alternatives multiply. */
export const STEPS_MAX = 20_000

class DoesNotFit extends Error {
  constructor(readonly misfit: Misfit) {
    super(misfit.why)
  }
}

export function read(field: Field, value: unknown): { draft: Draft } | { misfit: Misfit } {
  try {
    return { draft: drafted(field, value, { at: '', budget: { left: STEPS_MAX } }) }
  } catch (error) {
    if (error instanceof DoesNotFit) return { misfit: error.misfit }
    throw error
  }
}

interface Where {
  at: string
  budget: { left: number }
}

function drafted(field: Field, value: unknown, where: Where): Draft {
  if ((where.budget.left -= 1) < 0) throw new DoesNotFit({ at: where.at, why: 'tooMuch' })
  if (value === null && field.isNullable) return draftOf({ state: 'null' })
  const given = (more: Partial<Draft>) => draftOf({ state: 'given', ...more })
  const fits = (does: boolean) => {
    if (!does) throw new DoesNotFit({ at: where.at, why: 'value' })
  }
  switch (field.kind) {
    case 'text':
      fits(typeof value === 'string')
      return given({ text: String(value) })
    case 'number':
      fits(typeof value === 'number')
      return given({ text: String(value) })
    case 'flag':
      fits(typeof value === 'boolean')
      return given({ text: String(value) })
    case 'choice':
      fits(field.options.some((option) => same(option.value, value)))
      return given({ text: optionText(field.options, value) })
    case 'raw':
      fits(isOf(value, field.types))
      return given({ text: pretty(value) })
    case 'object':
      fits(isObject(value))
      return members(field, Object.entries(value as object), where)
    case 'list':
      fits(Array.isArray(value))
      return items(field, value as unknown[], where)
    case 'shapes':
      return shaped(field, value, where)
  }
}

/** As the option says it: its members may stand in another order. */
const optionText = (options: { value: unknown }[], value: unknown) =>
  JSON.stringify(options.find((option) => same(option.value, value))?.value)

const inner = ({ at, budget }: Where, token: string | number): Where => ({ at: below(at, token), budget })

function members(field: ObjectField, entries: [string, unknown][], where: Where): Draft {
  const given = new Map(entries)
  const drafts = field.members.map((member) =>
    given.has(member.name)
      ? drafted(member.field(), given.get(member.name), inner(where, member.name))
      : draftOf(),
  )
  const names = new Set(field.members.map(({ name }) => name))
  const rows = entries
    .filter(([name]) => !names.has(name))
    .map(([name, value]) => {
      const there = inner(where, name)
      if (!field.rest) throw new DoesNotFit({ at: there.at, why: 'member' })
      return { id: nextId(), name, draft: drafted(field.rest.item(), value, there) }
    })
  return draftOf({ state: 'given', members: drafts, rows })
}

const items = (field: ListField, values: unknown[], where: Where): Draft =>
  draftOf({
    state: 'given',
    items: values.map((value, index) => ({
      id: nextId(),
      draft: drafted(itemField(field, index), value, inner(where, index)),
    })),
  })

/** The first shape that the value fits without a problem; else the first that can hold it. */
function shaped(field: ShapesField, value: unknown, where: Where): Draft {
  let held: Draft | undefined
  for (const [shape, { field: make }] of field.shapes.entries()) {
    try {
      const of = make()
      const draft = drafted(of, value, where)
      const whole = draftOf({ state: 'given', shape, shapes: { [shape]: draft } })
      if (build(of, draft).problems.length === 0) return whole
      held ??= whole
    } catch (error) {
      if (!(error instanceof DoesNotFit) || error.misfit.why === 'tooMuch') throw error
    }
  }
  if (held) return held
  throw new DoesNotFit({ at: where.at, why: 'value' })
}
