// What the start page asks besides statistics: how the gateway fares, and how its upstreams do.
import { keepPreviousData, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import { useSession } from '@/session/store'

const REFRESH_MS = 30_000 // Changes are told by the stream of events; this is the net below it.
const UPSTREAMS_MAX = 200
const refetchInterval = () => (useSession().isExpired ? false : REFRESH_MS)
const kept = { refetchInterval, placeholderData: keepPreviousData } as const

export const useHealth = () =>
  useQuery({
    queryKey: ['health'],
    queryFn: () => unwrap(api.GET('/api/admin/health')),
    ...kept,
  })

export const useAllUpstreams = () =>
  useQuery({
    queryKey: ['upstreams', 'overview'],
    queryFn: () => unwrap(api.GET('/api/admin/upstreams', { params: { query: { limit: UPSTREAMS_MAX } } })),
    ...kept,
  })

/** Whether there is any key: without one nobody can call. */
export const useKeyCount = () =>
  useQuery({
    queryKey: ['keys', 'count'],
    queryFn: async () =>
      (await unwrap(api.GET('/api/admin/keys', { params: { query: { limit: 1 } } }))).total,
  })

export const useUpstreamChecks = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: ['upstreams', 'checks', id],
    queryFn: async () => {
      const params = { path: { id: toValue(id) } }
      return (await unwrap(api.GET('/api/admin/upstreams/{id}/checks', { params }))).items
    },
    ...kept,
  })
