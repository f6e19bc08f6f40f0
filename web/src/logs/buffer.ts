// The lines that the page holds: the newest of them, each once, in their order. Bounded, whatever comes.
import type { paths } from '@/api/schema'

export type LogLine =
  paths['/api/admin/logs']['get']['responses'][200]['content']['application/json']['items'][number]

/** Some ten seconds of a very busy gateway, and a few megabytes. */
export const LINES_MAX = 10_000

/**
 * The held lines with those that came. They come in order but for those that were read anew after a gap, which may
 * repeat what is held. A number that falls back is another process: the gateway was started again.
 */
export function append(held: readonly LogLine[], came: readonly LogLine[]): LogLine[] {
  const last = held.at(-1)
  const first = came[0]
  if (!first) return [...held]
  if (!last || first.seq > last.seq) return [...held, ...came].slice(-LINES_MAX)
  const isRestart = Math.max(...came.map(({ seq }) => seq)) < last.seq && first.at > last.at
  if (isRestart) return came.slice(-LINES_MAX)
  const bySeq = new Map([...held, ...came].map((line) => [line.seq, line]))
  return [...bySeq.values()].sort((one, other) => one.seq - other.seq).slice(-LINES_MAX)
}

export const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const
export type Level = (typeof LEVELS)[number]

export interface LineFilter {
  /** This level or a worse one. */
  level: Level
  search: string
  /** Ids or names: a line is of one when a field of it says so. */
  upstream: string[]
  key: string[]
}

export function matches(line: LogLine, { level, search, upstream, key }: LineFilter): boolean {
  const rank = LEVELS.findIndex((one) => one === line.level)
  if (rank > LEVELS.indexOf(level)) return false
  if (upstream.length > 0 && !isOf(line, 'upstream', upstream)) return false
  if (key.length > 0 && !isOf(line, 'key', key)) return false
  return search === '' || textOf(line).toLowerCase().includes(search.toLowerCase())
}

function isOf(line: LogLine, noun: string, wanted: string[]): boolean {
  return Object.entries(line.fields as Record<string, unknown>).some(
    ([name, value]) => name.split('.').includes(noun) && wanted.includes(String(value)),
  )
}

export const fieldsOf = (line: LogLine): string =>
  Object.entries(line.fields as Record<string, unknown>)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ')

export const textOf = (line: LogLine): string => `${line.target} ${line.message} ${fieldsOf(line)}`
