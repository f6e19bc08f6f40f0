// Where an upstream is, in one line: its URL or its command. Secrets stay dots.
import type { Upstream } from '@/api/types'
import { connParams } from './draft'

export function addressOf(upstream: Pick<Upstream, 'connParams'>): string {
  const { url, command = '', args = [] } = connParams(upstream)
  return url ?? [command, ...args.map((arg) => (typeof arg === 'string' ? arg : '•••'))].join(' ')
}
