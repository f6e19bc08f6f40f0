import { describe, expect, it } from 'vitest'
import type { Upstream } from '@/api/types'
import { TRANSPORTS, URL_EXAMPLES, bodyOf, draftOf, emptyDraft, newEntry, patchOf } from './draft'

const stored = {
  name: 'files',
  transport: 'stdio',
  connParams: {
    command: 'npx',
    args: ['-y', { secret: true }],
    env: { TOKEN: { secret: true }, OLD: 'x' },
    cwd: null,
  },
  namePrefix: '',
  isolation: 'shared',
  protocol: 'auto',
  tags: ['a', 'b'],
} as unknown as Upstream

describe('bodyOf', () => {
  it('holds the connection of the chosen transport only', () => {
    const draft = {
      ...emptyDraft(),
      name: ' x ',
      transport: 'streamable-http' as const,
      url: 'http://h/mcp',
      command: 'no',
    }
    expect(bodyOf(draft)).toMatchObject({ name: 'x', connParams: { url: 'http://h/mcp', headers: {} } })
    expect(bodyOf(draft).connParams).not.toHaveProperty('command')
  })

  it.each(TRANSPORTS)('says how to reach an upstream over %s, and nothing else', (transport) => {
    const url = transport === 'stdio' ? 'left over' : URL_EXAMPLES[transport]
    const headers = [newEntry({ name: 'X-Key', value: 'k', isSecret: true })]
    const body = bodyOf({ ...emptyDraft(), transport, command: 'npx', url, headers })
    expect(body.transport).toBe(transport)
    expect(body.connParams).toEqual(
      transport === 'stdio'
        ? { command: 'npx', args: [], env: {}, cwd: null }
        : { url, headers: { 'X-Key': { secret: 'k' } } },
    )
    expect(draftOf(body)).toMatchObject({ transport, url: transport === 'stdio' ? '' : url })
  })

  it('wraps secrets and leaves out rows without a name', () => {
    const env = [newEntry({ name: 'T', value: 's', isSecret: true }), newEntry({ value: 'lost' })]
    expect(bodyOf({ ...emptyDraft(), env }).connParams).toMatchObject({ env: { T: { secret: 's' } } })
  })

  it('names a credential only when one was typed', () => {
    expect(bodyOf(emptyDraft())).not.toHaveProperty('credential')
    expect(bodyOf({ ...emptyDraft(), credential: 'c' })).toHaveProperty('credential', 'c')
  })

  it('splits tags at either comma', () => {
    expect(bodyOf({ ...emptyDraft(), tags: 'a, b，c,' }).tags).toEqual(['a', 'b', 'c'])
  })
})

describe('patchOf', () => {
  it('gives stored secrets back as placeholders', () => {
    expect(patchOf(draftOf(stored), stored)).toMatchObject({
      connParams: { args: ['-y', { secret: true }], env: { TOKEN: { secret: true }, OLD: 'x' } },
    })
  })

  it('replaces a stored secret that is typed anew, and nulls what was removed', () => {
    const draft = draftOf(stored)
    draft.env = [newEntry({ name: 'TOKEN', value: 'new', isSecret: true, isStored: true })]
    expect(patchOf(draft, stored)).toMatchObject({
      connParams: { env: { TOKEN: { secret: 'new' }, OLD: null } },
    })
  })
})
