import { describe, expect, it } from 'vitest'
import { concerns } from './attention'
import type { Health } from './attention'

const well = {
  status: 'ok',
  store: true,
  ready: true,
  problem: null,
  redis: null,
  unreadable: [],
  callRecords: { written: 3, buffered: 0, lost: 0, surplus: 0 },
  jobs: [{ job: 'sync', lastMs: 3, done: 1, failed: 0, lastOutcome: 'done' }],
  xiaozhi: { enabled: 1, connected: 1 },
} as unknown as Health
const up = { id: '1', name: 'a', enabled: true, state: 'available', lastError: null } as const
const kinds = (health: Health | undefined, upstreams: Parameters<typeof concerns>[1]) =>
  concerns(health, upstreams).map(({ kind }) => kind)

describe('concerns', () => {
  it('are none where all is well, or nothing is known yet', () => {
    expect(kinds(well, [up])).toEqual([])
    expect(kinds(undefined, [])).toEqual([])
  })

  it('name an upstream that is down, with its reason, unless it is switched off', () => {
    const down = { ...up, state: 'unavailable', lastError: 'refused' } as const
    expect(concerns(well, [down, { ...down, enabled: false }])).toEqual([
      { kind: 'upstream', id: '1', name: 'a', detail: 'refused', to: '/upstreams/1' },
    ])
  })

  it.each([
    ['store', { store: false }],
    ['catalog', { problem: 'too many tools' }],
    ['redis', { redis: { up: false, since: '', replicas: 1 } }],
    ['unreadable', { unreadable: [{ table: 'tools', id: '1', column: 'name' }] }],
    ['lost', { callRecords: { written: 0, buffered: 0, lost: 2, surplus: 0 } }],
    ['job', { jobs: [{ job: 'sync', lastMs: 1, done: 0, failed: 1, lastOutcome: 'failed' }] }],
    ['xiaozhi', { xiaozhi: { enabled: 2, connected: 1 } }],
  ])('tell of %s', (kind, changed) => {
    expect(kinds({ ...well, ...changed } as Health, [])).toEqual([kind])
  })
})
