// The snippets for clients, and whether a key was used since it was looked at.
import { useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import { useSession } from '@/session/store'

const POLL_MS = 2_000
const CHOICES_MAX = 200 // What a page of the API holds at most.

export const useSnippets = () =>
  useQuery({ queryKey: ['clients'], queryFn: () => unwrap(api.GET('/api/admin/clients')) })

export const useKeyChoices = () =>
  useQuery({
    queryKey: ['keys', 'choices'],
    queryFn: async () => {
      const query = { limit: CHOICES_MAX, sort: 'name' }
      return (await unwrap(api.GET('/api/admin/keys', { params: { query } }))).items
    },
  })

/** When the key was last used: asked for again and again, as the first call may come at any moment. */
export const useLastUse = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: ['keys', 'last use', id],
    queryFn: async () => {
      const params = { path: { id: toValue(id) } }
      return (await unwrap(api.GET('/api/admin/keys/{id}', { params }))).lastUsedAt ?? null
    },
    enabled: () => toValue(id) !== '',
    refetchInterval: () => (useSession().isExpired ? false : POLL_MS),
  })
