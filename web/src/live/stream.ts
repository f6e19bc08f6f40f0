// What happens at the gateway, as it happens: one stream for the whole console, read with `fetch` since it needs the
// token. It tells the queries what is no longer true. While nobody looks at the page it is closed; lost, it comes back.
import { useDocumentVisibility, useThrottleFn } from '@vueuse/core'
import { computed, onScopeDispose, ref, shallowReactive, watch } from 'vue'
import { queryClient } from '@/api/query'
import { useSession } from '@/session/store'
import { backoffMs } from './backoff'
import { createEventParser } from './parse'
import type { StreamEvent } from './parse'

type Listener = (events: StreamEvent[]) => void

/** What every page is told. Lines of the log come only to who listens: there may be a thousand a second. */
const KINDS = ['upstream', 'call', 'audit', 'health']
const LOST_AFTER = 2 // Attempts that failed: one alone may be a restart, which nobody needs to hear of.
const STATES_EVERY_MS = 1_000
const NUMBERS_EVERY_MS = 5_000 // Records are written in batches, and a busy gateway ends thousands of calls a second.

export const liveState = ref<'closed' | 'open' | 'connecting' | 'lost'>('closed')

const logListeners = shallowReactive(new Set<Listener>())
const poke = ref(0)

/** Tries again at once, with everything asked anew. */
export function reconnect() {
  poke.value += 1
  void queryClient.invalidateQueries()
}

/** Hears the lines of the gateway's log for as long as the component lives. */
export function useLogEvents(listener: Listener) {
  logListeners.add(listener)
  onScopeDispose(() => logListeners.delete(listener))
}

const stale = (...keys: string[]) =>
  Promise.all(keys.map((key) => queryClient.invalidateQueries({ queryKey: [key] })))

/** Keeps the stream open while somebody looks and is signed in. Called once, by the shell. */
export function useLive() {
  const session = useSession()
  const visibility = useDocumentVisibility()
  const isWanted = computed(
    () => visibility.value === 'visible' && session.token !== '' && !session.isExpired,
  )
  const kinds = computed(() => (logListeners.size > 0 ? [...KINDS, 'log'] : KINDS).join(','))
  const statesChanged = useThrottleFn(() => stale('upstreams', 'health'), STATES_EVERY_MS, true)
  const callsEnded = useThrottleFn(() => stale('stats'), NUMBERS_EVERY_MS, true)
  const audited = useThrottleFn(() => stale('audit'), STATES_EVERY_MS, true)

  function hear(events: StreamEvent[]) {
    const lines = events.filter(({ kind }) => kind === 'log')
    if (lines.length > 0) for (const listener of logListeners) listener(lines)
    const heard = new Set(events.map(({ kind }) => kind))
    if (heard.has('upstream') || heard.has('health')) void statesChanged()
    if (heard.has('call')) void callsEnded()
    if (heard.has('audit')) void audited()
  }

  watch(
    [isWanted, kinds, () => session.token, poke],
    ([wanted, kinds, token], _before, onCleanup) => {
      if (!wanted) {
        liveState.value = 'closed'
        return
      }
      const ended = new AbortController()
      onCleanup(() => ended.abort())
      void follow(kinds, token, hear, ended.signal)
    },
    { immediate: true },
  )
  onScopeDispose(() => (liveState.value = 'closed'))
}

/** Reads the stream until it is aborted, and opens it again whenever it ends. */
async function follow(kinds: string, token: string, hear: Listener, signal: AbortSignal) {
  for (let failures = 0; !signal.aborted;) {
    if (failures === 0) liveState.value = 'connecting'
    try {
      const answer = await fetch(`/api/admin/events?kinds=${kinds}`, {
        headers: { Authorization: `Bearer ${token}` },
        signal,
      })
      if (answer.status === 401) return useSession().expire()
      if (!answer.ok || !answer.body) throw new Error(`status ${answer.status}`)
      liveState.value = 'open'
      failures = 0
      await read(answer.body, hear)
      // It ended as it should: by a restart, or because we were too slow. Once more, after a breath.
      failures = 1
    } catch {
      if (signal.aborted) return
      failures += 1
      if (failures >= LOST_AFTER) liveState.value = 'lost'
    }
    await pause(backoffMs(failures, Math.random()), signal)
  }
}

async function read(body: ReadableStream<Uint8Array>, hear: Listener) {
  const reader = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .getReader()
  const parse = createEventParser()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const events = parse(value)
    if (events.length > 0) hear(events)
  }
}

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
