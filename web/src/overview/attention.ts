// What somebody should look at, the gravest first. Pure: from what the gateway says of itself.
import type { paths } from '@/api/schema'
import type { Upstream } from '@/api/types'

type Ok<P extends keyof paths> = paths[P] extends {
  get: { responses: { 200: { content: { 'application/json': infer Body } } } }
}
  ? Body
  : never
export type Health = Ok<'/api/admin/health'>

export interface Concern {
  /** What, under `overview.concern`. */
  kind: 'store' | 'catalog' | 'redis' | 'unreadable' | 'lost' | 'job' | 'upstream' | 'xiaozhi'
  id: string
  /** Whose name or number goes into the sentence. */
  name: string
  detail?: string
  to?: string
}

type Seen = Pick<Upstream, 'id' | 'name' | 'enabled' | 'state' | 'lastError'>

const DOWN = ['unavailable', 'suspended']

export function concerns(health: Health | undefined, upstreams: Seen[]): Concern[] {
  const found: Concern[] = []
  const add = (kind: Concern['kind'], name: string | number, rest: Omit<Partial<Concern>, 'kind'> = {}) =>
    found.push({ kind, id: kind, name: String(name), ...rest })
  if (health) {
    if (!health.store) add('store', '')
    if (health.problem) add('catalog', '', { detail: health.problem })
    if (health.redis && !health.redis.up) add('redis', '', { detail: health.redis.problem ?? undefined })
    if (health.unreadable.length > 0) add('unreadable', health.unreadable.length, { to: '/logs' })
    if (health.callRecords.lost > 0) add('lost', health.callRecords.lost)
    for (const { job, lastOutcome } of health.jobs) {
      if (lastOutcome === 'failed') add('job', job, { id: `job-${job}`, to: '/logs' })
    }
  }
  for (const { id, name, enabled, state, lastError } of upstreams) {
    if (enabled && DOWN.includes(state)) {
      add('upstream', name, { id, detail: lastError ?? undefined, to: `/upstreams/${id}` })
    }
  }
  const xiaozhi = health?.xiaozhi
  if (xiaozhi && xiaozhi.connected < xiaozhi.enabled) {
    add('xiaozhi', xiaozhi.enabled - xiaozhi.connected, { to: '/xiaozhi' })
  }
  return found
}
