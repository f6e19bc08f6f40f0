// The moments of an axis: as short as the distance between them allows.
import { computed, toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { useI18n } from 'vue-i18n'

const HALF_DAY_S = 43_200
const QUARTER_S = 900 // Finer steps are of the last hours: the day is clear.

export function useMoments(stepS: MaybeRefOrGetter<number>) {
  const { locale } = useI18n()
  const short = computed(() => {
    const step = toValue(stepS)
    const day: Intl.DateTimeFormatOptions = { month: 'numeric', day: 'numeric' }
    const time: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }
    const options = step >= HALF_DAY_S ? day : step > QUARTER_S ? { ...day, ...time } : time
    return new Intl.DateTimeFormat(locale.value, options)
  })
  const full = computed(
    () => new Intl.DateTimeFormat(locale.value, { dateStyle: 'medium', timeStyle: 'short' }),
  )
  return {
    short: (at: string) => (at ? short.value.format(new Date(at)) : ''),
    full: (at: string) => full.value.format(new Date(at)),
  }
}
