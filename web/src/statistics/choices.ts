// What filters offer: every upstream and key by name, as far as a list to choose from makes sense.
import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'
import { api, unwrap } from '@/api/client'

const CHOICES_MAX = 200 // One page; with more, the links of the rankings lead there.
const params = { query: { limit: CHOICES_MAX, sort: 'name' } }

export function useChoices() {
  const upstreams = useQuery({
    queryKey: ['upstreams', 'choices'],
    queryFn: async () => (await unwrap(api.GET('/api/admin/upstreams', { params }))).items,
  })
  const keys = useQuery({
    queryKey: ['keys', 'choices'],
    queryFn: async () => (await unwrap(api.GET('/api/admin/keys', { params }))).items,
  })
  const named = (items: { id: string; name: string }[] | undefined) =>
    (items ?? []).map(({ id, name }) => ({ value: id, label: name }))
  return {
    upstreams: computed(() => named(upstreams.data.value)),
    keys: computed(() => named(keys.data.value)),
  }
}
