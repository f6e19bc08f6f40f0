// One filter of a list, kept in its URL under `name`; empty means that it isn't set.
import { computed } from 'vue'
import { useRoute, useRouter } from 'vue-router'

export function useUrlFilter<Value extends string>(name: string, values: readonly Value[]) {
  const route = useRoute()
  const router = useRouter()
  return computed<Value | ''>({
    get: () => values.find((value) => value === route.query[name]) ?? '',
    set: (value) => void router.replace({ query: { ...route.query, [name]: value || undefined } }),
  })
}
