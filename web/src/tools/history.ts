// What was tried since this page was loaded. In memory alone: arguments and results may hold anything.
import { shallowRef } from 'vue'
import type { PlaygroundAnswer } from '@/api/types'

/** Calls that are kept, of all tools together. */
const CALLS_MAX = 50
/** Characters of arguments and results that are kept, some 8 MB. */
const CHARS_MAX = 4_000_000

export interface Tried {
  id: number
  name: string
  at: string
  keyId: string
  arguments: Record<string, unknown>
  answer: PlaygroundAnswer
}

const calls = shallowRef<(Tried & { chars: number })[]>([])
let nextId = 0

/** Notes a call and lets the oldest go of too many, or of too much. */
export function note(tried: Omit<Tried, 'id'>): Tried {
  const chars = JSON.stringify([tried.arguments, tried.answer]).length
  const noted = { ...tried, id: nextId++, chars }
  let room = CHARS_MAX
  const kept = [noted, ...calls.value].slice(0, CALLS_MAX)
  calls.value = kept.filter((call) => (room -= call.chars) >= 0)
  return noted
}

/** The calls of one tool, the last first. */
export const triedOf = (name: string): Tried[] => calls.value.filter((call) => call.name === name)

/** Whoever signs in next is somebody else. */
export function forget(): void {
  calls.value = []
}
