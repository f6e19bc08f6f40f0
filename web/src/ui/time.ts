// Times as people read them: how long ago, with the moment itself in the title.
import { computed, toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { useI18n } from 'vue-i18n'

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

export function relativeTime(time: string, now: number, locale: string): string {
  const seconds = (Date.parse(time) - now) / 1000
  const format = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' })
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? (['second', 1] as const)
  return format.format(Math.round(seconds / size), unit)
}

export function useTimes() {
  const { locale } = useI18n()
  const full = computed(
    () => new Intl.DateTimeFormat(locale.value, { dateStyle: 'medium', timeStyle: 'medium' }),
  )
  return {
    ago: (time: MaybeRefOrGetter<string>) => relativeTime(toValue(time), Date.now(), locale.value),
    exact: (time: string) => full.value.format(new Date(time)),
  }
}
