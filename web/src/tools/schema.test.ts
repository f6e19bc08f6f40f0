// Forms out of schemas as servers write them: each property has a control, and each draft is JSON of its type.
import { describe, expect, it } from 'vitest'
import { build, fieldsOf, initialDraft } from './schema'

const one = (property: unknown, more: object = {}) =>
  fieldsOf({ type: 'object', properties: { p: property }, ...more })[0]!

describe('controls', () => {
  it.each([
    ['a text', { type: 'string' }, 'text'],
    ['a date', { type: 'string', format: 'date' }, 'text'],
    ['a number', { type: 'number', minimum: 0 }, 'number'],
    ['an integer', { type: 'integer' }, 'number'],
    ['a switch', { type: 'boolean' }, 'boolean'],
    ['an enum', { type: 'string', enum: ['a', 'b'] }, 'choice'],
    ['an enum of several types', { enum: ['a', 1, null] }, 'choice'],
    ['a constant', { const: 'x' }, 'choice'],
    ['alternatives of one value each', { oneOf: [{ const: 'a', title: 'A' }, { const: 'b' }] }, 'choice'],
    ['any of constants', { anyOf: [{ const: 1 }, { const: 2 }] }, 'choice'],
    ['alternatives', { oneOf: [{ type: 'string' }, { type: 'number' }] }, 'json'],
    ['a text or nothing', { type: ['string', 'null'] }, 'text'],
    ['several types', { type: ['string', 'number'] }, 'json'],
    ['an object', { type: 'object', properties: { q: { type: 'string' } } }, 'json'],
    ['a list', { type: 'array', items: { type: 'string' } }, 'json'],
    ['a map', { type: 'object', additionalProperties: { type: 'number' } }, 'json'],
    ['no type', {}, 'json'],
    ['anything', true, 'json'],
    ['nonsense', { type: 7 }, 'json'],
    ['a reference out of the document', { $ref: 'https://example.com/s.json' }, 'json'],
  ])('%s', (_, property, control) => {
    expect(one(property).control).toBe(control)
  })

  it('follows references, and takes what stands beside them', () => {
    const defs = { $defs: { 'a/b': { type: 'integer', description: 'there' }, c: { $ref: '#/$defs/a~1b' } } }
    expect(one({ $ref: '#/$defs/c' }, defs)).toMatchObject({ control: 'number', description: 'there' })
    expect(one({ $ref: '#/$defs/c', description: 'here' }, defs).description).toBe('here')
  })

  it('does not follow a circle for ever', () => {
    expect(one({ $ref: '#/$defs/a' }, { $defs: { a: { $ref: '#/$defs/a' } } }).control).toBe('json')
  })

  it('puts what is required first, and takes any schema', () => {
    const schema = { properties: { a: {}, b: { type: 'string' } }, required: ['b'] }
    expect(fieldsOf(schema).map(({ name }) => name)).toEqual(['b', 'a'])
    for (const odd of [undefined, null, true, [], 7, { properties: 3, required: 'x' }]) {
      expect(fieldsOf(odd)).toEqual([])
    }
  })
})

describe('values', () => {
  const schema = {
    type: 'object',
    properties: {
      text: { type: 'string' },
      count: { type: 'integer' },
      ratio: { type: 'number', default: 0.5 },
      loud: { type: 'boolean', default: true },
      colour: { enum: ['red', 1, null] },
      deep: { type: 'object' },
    },
    required: ['text'],
  }
  const fields = fieldsOf(schema)

  it('begin with the defaults, and leave out what nobody said', () => {
    expect(build(fields, initialDraft(fields))).toEqual({
      value: { text: '', ratio: 0.5, loud: true },
      wrong: [],
    })
  })

  it('are of the types that the schema says', () => {
    const draft = { text: '7', count: '7', ratio: '', loud: 'false', colour: 'null', deep: '{"a":[1]}' }
    expect(build(fields, draft)).toEqual({
      value: { text: '7', count: 7, loud: false, colour: null, deep: { a: [1] } },
      wrong: [],
    })
  })

  it('are named where they are not', () => {
    const draft = { text: 'x', count: 'many', deep: '{' }
    expect(build(fields, draft).wrong).toEqual(['count', 'deep'])
    const needed = fieldsOf({ properties: { n: { type: 'number' } }, required: ['n'] })
    expect(build(needed, { n: '' }).wrong).toEqual(['n'])
  })
})
