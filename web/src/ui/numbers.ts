// Numbers as people of each language read them, with their units.
import { computed } from 'vue'
import { useI18n } from 'vue-i18n'

export const NONE = '–'
const BYTE_UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const
const SECOND_MS = 1_000

export function useNumbers() {
  const { locale } = useI18n()
  const make = (options: Intl.NumberFormatOptions) => new Intl.NumberFormat(locale.value, options)
  const whole = computed(() => make({ maximumFractionDigits: 0 }))
  const few = computed(() => make({ maximumFractionDigits: 1 }))
  const part = computed(() => make({ style: 'percent', maximumFractionDigits: 2 }))

  function duration(ms: number | null | undefined): string {
    if (ms === null || ms === undefined) return NONE
    const [value, unit] = ms < SECOND_MS ? [ms, 'millisecond'] : [ms / SECOND_MS, 'second']
    return make({ style: 'unit', unit, maximumFractionDigits: value < 10 ? 1 : 0 }).format(value)
  }

  function bytes(count: number): string {
    const power = Math.min(BYTE_UNITS.length - 1, count > 0 ? Math.floor(Math.log10(count) / 3) : 0)
    return make({ style: 'unit', unit: BYTE_UNITS[power], maximumFractionDigits: 1 }).format(
      count / 1000 ** power,
    )
  }

  return {
    count: (value: number) => whole.value.format(value),
    rate: (value: number) => few.value.format(value),
    /** A part of a whole; of nothing, none. */
    percent: (some: number, all: number) => (all === 0 ? NONE : part.value.format(some / all)),
    duration,
    bytes,
  }
}
