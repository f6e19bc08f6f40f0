// What the form holds, and how it becomes the bodies of the REST API.
import type { NewUpstream, Upstream, UpstreamPatch } from '@/api/types'

/** Those that are made most come first. */
export const TRANSPORTS = ['stdio', 'streamable-http', 'sse', 'websocket'] as const
/** What the address of each looks like. */
export const URL_EXAMPLES = {
  'streamable-http': 'https://example.com/mcp',
  sse: 'https://example.com/sse',
  websocket: 'wss://example.com/mcp',
} as const
export const PROTOCOLS = ['auto', 'legacy', 'modern'] as const

/** An argument, a header or a variable. A stored secret is known only as one: it stays unless it is typed anew. */
export interface Entry {
  key: number
  name: string
  value: string
  isSecret: boolean
  isStored: boolean
}

export interface Draft {
  name: string
  transport: Upstream['transport']
  command: string
  args: Entry[]
  env: Entry[]
  cwd: string
  url: string
  headers: Entry[]
  credential: string
  namePrefix: string
  protocol: Upstream['protocol']
  tags: string
}

type Value = string | { secret: string | true }

let nextKey = 0
export const newEntry = (fields: Partial<Entry> = {}): Entry => ({
  key: nextKey++,
  name: '',
  value: '',
  isSecret: false,
  isStored: false,
  ...fields,
})

export const emptyDraft = (): Draft => ({
  name: '',
  transport: 'stdio',
  command: '',
  args: [],
  env: [],
  cwd: '',
  url: '',
  headers: [],
  credential: '',
  namePrefix: '',
  protocol: 'auto',
  tags: '',
})

/** The members of either kind of connection, as far as they are there. */
export interface AnyConnParams {
  command?: string
  args?: Value[]
  env?: Record<string, Value>
  cwd?: string | null
  url?: string
  headers?: Record<string, Value>
}

export const connParams = (upstream: Pick<Upstream, 'connParams'>) => upstream.connParams as AnyConnParams

/** The form of a stored upstream, or of one that a template was made into, whose secrets are still at hand. */
export function draftOf(upstream: Upstream | NewUpstream): Draft {
  const params = connParams(upstream as Pick<Upstream, 'connParams'>)
  const entry = (name: string, value: Value) => {
    if (typeof value === 'string') return newEntry({ name, value })
    const { secret } = value
    return typeof secret === 'string'
      ? newEntry({ name, value: secret, isSecret: true })
      : newEntry({ name, value: '', isSecret: true, isStored: true })
  }
  const named = (values: Record<string, Value> = {}) =>
    Object.entries(values).map(([name, value]) => entry(name, value))
  return {
    ...emptyDraft(),
    name: upstream.name,
    transport: upstream.transport,
    command: params.command ?? '',
    args: (params.args ?? []).map((value) => entry('', value)),
    env: named(params.env),
    cwd: params.cwd ?? '',
    url: params.url ?? '',
    headers: named(params.headers),
    credential: 'credential' in upstream ? (upstream.credential ?? '') : '',
    namePrefix: upstream.namePrefix ?? '',
    protocol: upstream.protocol ?? 'auto',
    tags: (upstream.tags ?? []).join(', '),
  }
}

function valueOf({ value, isSecret, isStored }: Entry): Value {
  if (!isSecret) return value
  return { secret: isStored && value === '' ? true : value }
}

const named = (entries: Entry[]) =>
  Object.fromEntries(entries.filter(({ name }) => name !== '').map((entry) => [entry.name, valueOf(entry)]))

function paramsOf(draft: Draft): AnyConnParams {
  if (draft.transport !== 'stdio') return { url: draft.url.trim(), headers: named(draft.headers) }
  return {
    command: draft.command.trim(),
    args: draft.args.map(valueOf),
    env: named(draft.env),
    cwd: draft.cwd.trim() || null,
  }
}

export function bodyOf(draft: Draft): NewUpstream {
  const body = {
    name: draft.name.trim(),
    transport: draft.transport,
    connParams: paramsOf(draft),
    // Absent: none, or what is stored. An empty field must not clear it.
    ...(draft.credential ? { credential: draft.credential } : {}),
    namePrefix: draft.namePrefix,
    protocol: draft.protocol,
    tags: draft.tags
      .split(/[,，]/)
      .map((tag) => tag.trim())
      .filter(Boolean),
  }
  return body as NewUpstream
}

/** A merge patch keeps what it doesn't name, so what was taken out has to be named, with null. */
export function patchOf(draft: Draft, before: Upstream): UpstreamPatch {
  const old = connParams(before)
  const removed = (values: Record<string, Value> = {}, entries: Entry[]) => {
    const kept = new Set(entries.map(({ name }) => name))
    return Object.fromEntries(Object.keys(values).flatMap((name) => (kept.has(name) ? [] : [[name, null]])))
  }
  const params = paramsOf(draft)
  const patched = {
    ...params,
    ...(params.env ? { env: { ...removed(old.env, draft.env), ...params.env } } : {}),
    ...(params.headers ? { headers: { ...removed(old.headers, draft.headers), ...params.headers } } : {}),
  }
  return { ...bodyOf(draft), connParams: patched } as unknown as UpstreamPatch
}
