// Whose rules there can be, by name: all upstreams', one upstream's, one key's.
import { computed } from 'vue'
import { useI18n } from 'vue-i18n'
import { useChoices } from '@/statistics/choices'
import { ownerText } from './owner'
import type { Owner } from './owner'

export function useOwners() {
  const { t } = useI18n()
  const { upstreams, keys } = useChoices()
  const choices = computed(() => [
    { value: 'all', label: t('rules.owner.all') },
    ...upstreams.value.map(({ value, label }) => ({
      value: `upstream:${value}`,
      label: t('rules.owner.upstream', { name: label }),
    })),
    ...keys.value.map(({ value, label }) => ({
      value: `key:${value}`,
      label: t('rules.owner.key', { name: label }),
    })),
  ])
  const names = computed(() => new Map(choices.value.map(({ value, label }) => [value, label])))
  /** An owner beyond the first page of choices is named by its id. */
  const nameOf = (owner: Owner) => names.value.get(ownerText(owner)) ?? ownerText(owner)
  return { choices, nameOf }
}
