// The fields of a form for a tool's arguments, out of its JSON Schema (2020-12). What has no control of its own is
// written as JSON, so that no schema leaves a blank. Whether a value is right, the server says.

export type Control = 'text' | 'number' | 'boolean' | 'choice' | 'json'

export interface FormField {
  name: string
  control: Control
  isRequired: boolean
  description: string
  /** Of a choice, in order. */
  options: unknown[]
  /** What it is if nobody says otherwise, as it stands in its control. */
  initial: string
}

/** What stands in the controls, by name; of one that was never touched, what it began with. */
export type Draft = Record<string, string>

export interface Built {
  value: Record<string, unknown>
  /** Names of fields whose text is not of their type. */
  wrong: string[]
}

type Schema = Record<string, unknown>

/** How many references may lead to one another: a longer way is a circle. */
const REFERENCES_MAX = 16

const isObject = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The fields of an object's schema, those that are required first. */
export function fieldsOf(schema: unknown): FormField[] {
  const root = isObject(schema) ? schema : {}
  const whole = resolved(root, root)
  const properties = isObject(whole.properties) ? whole.properties : {}
  const required = Array.isArray(whole.required) ? whole.required : []
  const fields = Object.entries(properties).map(([name, property]) =>
    fieldOf(name, resolved(property, root), required.includes(name)),
  )
  return [...fields.filter(({ isRequired }) => isRequired), ...fields.filter(({ isRequired }) => !isRequired)]
}

/** What the controls begin with. */
export const initialDraft = (fields: FormField[]): Draft =>
  Object.fromEntries(fields.map(({ name, initial }) => [name, initial]))

/** The arguments that a draft stands for. What is empty and needn't be there is left out. */
export function build(fields: FormField[], draft: Draft): Built {
  const value: Record<string, unknown> = {}
  const wrong: string[] = []
  for (const field of fields) {
    const text = draft[field.name] ?? ''
    if (text === '' && !(field.isRequired && field.control === 'text')) {
      if (field.isRequired) wrong.push(field.name)
      continue
    }
    const read = valueOf(field, text)
    if (read === undefined) wrong.push(field.name)
    else value[field.name] = read
  }
  return { value, wrong }
}

function fieldOf(name: string, schema: Schema, isRequired: boolean): FormField {
  const options = choices(schema)
  const control = options.length > 0 ? 'choice' : controlOf(schema)
  const description = typeof schema.description === 'string' ? schema.description : ''
  return { name, control, isRequired, description, options, initial: initialOf(schema, control, options) }
}

function controlOf(schema: Schema): Control {
  const types = [schema.type].flat().filter((type) => type !== 'null')
  if (types.length !== 1) return 'json'
  switch (types[0]) {
    case 'string':
      return 'text'
    case 'number':
    case 'integer':
      return 'number'
    case 'boolean':
      return 'boolean'
    default:
      return 'json'
  }
}

/** What there is to choose from: `enum`, `const`, or alternatives that are each one value. */
function choices(schema: Schema): unknown[] {
  if (Array.isArray(schema.enum)) return schema.enum
  if ('const' in schema) return [schema.const]
  const alternatives = [schema.oneOf, schema.anyOf].find(Array.isArray) as unknown[] | undefined
  const each = alternatives?.map((one) => (isObject(one) && 'const' in one ? [one.const] : []))
  return each?.every((one) => one.length === 1) ? each.flat() : []
}

function initialOf(schema: Schema, control: Control, options: unknown[]): string {
  const given = 'default' in schema ? schema.default : options.length === 1 ? options[0] : undefined
  if (given === undefined) return ''
  return control === 'text' && typeof given === 'string' ? given : JSON.stringify(given)
}

function valueOf({ control }: FormField, text: string): unknown {
  if (control === 'text') return text
  if (control === 'number') {
    const number = Number(text)
    return text.trim() !== '' && Number.isFinite(number) ? number : undefined
  }
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** What a schema refers to within its document, with what stands beside the reference on top. */
function resolved(schema: unknown, root: Schema): Schema {
  let at = isObject(schema) ? schema : {}
  for (let step = 0; step < REFERENCES_MAX && typeof at.$ref === 'string'; step += 1) {
    const { $ref, ...beside } = at
    at = { ...pointed(root, $ref as string), ...beside }
  }
  return at
}

function pointed(root: Schema, reference: string): Schema {
  if (!reference.startsWith('#')) return {}
  const parts = reference
    .slice(1)
    .split('/')
    .filter(Boolean)
    .map((part) => decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~'))
  const found = parts.reduce<unknown>(
    (at, part) => (isObject(at) && Object.hasOwn(at, part) ? at[part] : undefined),
    root,
  )
  return isObject(found) ? found : {}
}
