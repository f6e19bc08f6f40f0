// A list's search in its URL, so that a link shows the same list.
import { refDebounced } from '@vueuse/core'
import { ref, watch } from 'vue'
import { useRoute, useRouter } from 'vue-router'

const TYPING_PAUSE_MS = 250

export function useListSearch() {
  const route = useRoute()
  const router = useRouter()
  const typed = ref(String(route.query.search ?? ''))
  const search = refDebounced(typed, TYPING_PAUSE_MS)
  watch(search, (value) => void router.replace({ query: { ...route.query, search: value || undefined } }))
  return { typed, search }
}
