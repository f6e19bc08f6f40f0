// The lines of the log as they come: kept up at the pace of the screen, not at that of the gateway.
import { onScopeDispose, ref, shallowRef, watch } from 'vue'
import { api, unwrap } from '@/api/client'
import { liveState, useLogEvents } from '@/live/stream'
import { LINES_MAX, append } from './buffer'
import type { LogLine } from './buffer'

const PAGE = 200
/** Ten times a second is what an eye follows; each costs a pass over the held lines. */
const FLUSH_MS = 100

export function useLines() {
  const lines = shallowRef<LogLine[]>([])
  const isPaused = ref(false)
  const isLoading = ref(true)
  const error = ref<unknown>()
  let waiting: LogLine[] = []
  let timer: ReturnType<typeof setTimeout> | undefined

  function flush() {
    timer = undefined
    if (isPaused.value || waiting.length === 0) return
    lines.value = append(lines.value, waiting)
    waiting = []
  }

  function take(came: LogLine[]) {
    waiting.push(...came)
    // Paused, or in a tab that the browser lets sleep, it must not grow either.
    if (waiting.length > LINES_MAX) waiting = waiting.slice(-LINES_MAX)
    timer ??= setTimeout(flush, FLUSH_MS)
  }

  /** What was said before the stream opened, or while it was cut. */
  async function load() {
    try {
      const { items } = await unwrap(api.GET('/api/admin/logs', { params: { query: { limit: PAGE } } }))
      error.value = undefined
      lines.value = append(lines.value, [...items].reverse())
    } catch (caught) {
      error.value = caught
    } finally {
      isLoading.value = false
    }
  }

  useLogEvents((events) => take(events.map(({ data }) => data as LogLine)))
  watch(liveState, (state) => state === 'open' && void load(), { immediate: true })
  watch(isPaused, (paused) => !paused && flush())
  void load()
  onScopeDispose(() => clearTimeout(timer))
  return { lines, isPaused, isLoading, error, load, clear: () => (lines.value = []) }
}
