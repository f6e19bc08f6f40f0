// The ranges of time that numbers are shown for, each up to now.
import { computed } from 'vue'
import { useI18n } from 'vue-i18n'

const MINUTE_MS = 60_000
const DAY_MS = 1_440 * MINUTE_MS

export const RANGES = ['15m', '1h', '24h', '7d', '30d'] as const
export type Range = (typeof RANGES)[number]
export const RANGE_DEFAULT: Range = '24h'

const SPANS: Record<Range, number> = {
  '15m': 15 * MINUTE_MS,
  '1h': 60 * MINUTE_MS,
  '24h': DAY_MS,
  '7d': 7 * DAY_MS,
  '30d': 30 * DAY_MS,
}

/** What a URL holds may be anything. */
export const asRange = (text: string): Range => RANGES.find((range) => range === text) ?? RANGE_DEFAULT

export function spanOf(range: Range, now: number): { from: string; to: string } {
  return { from: new Date(now - SPANS[range]).toISOString(), to: new Date(now).toISOString() }
}

export const minutesOf = (range: Range) => SPANS[range] / MINUTE_MS

/** The offset of this browser's clock, such as `+05:30`: days begin where the reader is. */
export function offsetOf(date: Date): string {
  const minutes = -date.getTimezoneOffset()
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const size = Math.abs(minutes)
  return `${minutes < 0 ? '-' : '+'}${two(size / 60)}:${two(size % 60)}`
}

export function useRangeOptions() {
  const { t } = useI18n()
  return computed(() => RANGES.map((value) => ({ value, label: t(`statistics.range.${value}`) })))
}
