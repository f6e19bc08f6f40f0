// Hands a filled-in template to the form of a new upstream. In memory alone, and once: it may hold secrets.
import type { NewUpstream } from '@/api/types'

let waiting: NewUpstream | undefined

export const prefill = (upstream: NewUpstream) => {
  waiting = upstream
}

export function takePrefill(): NewUpstream | undefined {
  const taken = waiting
  waiting = undefined
  return taken
}
