// Filters in the URL: a link shows the same, and Back undoes nothing that was typed.
import { computed } from 'vue'
import type { WritableComputedRef } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/** One value of the query for each default; a value that is the default stands nowhere. */
export function useUrlState<Values extends Record<string, string>>(defaults: Values) {
  const route = useRoute()
  const router = useRouter()
  // What was set but isn't in the URL yet: two that are set in one breath must both arrive.
  let pending: Record<string, string | undefined> = {}

  function set(patch: Partial<Values>) {
    for (const [key, value] of Object.entries(patch)) {
      pending[key] = value === '' || value === defaults[key] ? undefined : value
    }
    const query = { ...route.query, ...pending }
    void router.replace({ query }).then(() => (pending = {}))
  }

  const values = computed(
    () =>
      Object.fromEntries(
        Object.entries(defaults).map(([key, value]) => {
          const given = route.query[key]
          return [key, typeof given === 'string' ? given : value]
        }),
      ) as Values,
  )
  const field = <Key extends keyof Values & string>(key: Key): WritableComputedRef<Values[Key]> =>
    computed({
      get: () => values.value[key],
      set: (value) => set({ [key]: value } as unknown as Partial<Values>),
    })
  return { values, set, field }
}
