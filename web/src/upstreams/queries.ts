// Everything that the console asks and tells about upstreams.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { BulkAction, NewUpstream, Upstream, UpstreamPatch } from '@/api/types'
import { useSession } from '@/session/store'

const KEY = 'upstreams'
// States change by themselves. The browser asks only while the page is looked at.
const POLL_MS = 3_000
// Nor while it waits for the password: each answer would only be another refusal.
const poll = () => (useSession().isExpired ? false : POLL_MS)
const PAGE = 50

const path = (id: string) => ({ params: { path: { id } } })
const refresh = () => queryClient.invalidateQueries({ queryKey: [KEY] })

export interface Filters {
  search: string
  transport: Upstream['transport'] | ''
  enabled: 'true' | 'false' | ''
  sort: string
}

export function useUpstreams(filters: MaybeRefOrGetter<Filters>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'list', filters],
    queryFn: ({ pageParam }) => {
      const { search, transport, enabled, sort } = toValue(filters)
      const query = {
        limit: PAGE,
        cursor: pageParam,
        search: search || undefined,
        transport: transport || undefined,
        enabled: enabled === '' ? undefined : enabled === 'true',
        sort: sort || undefined,
      }
      return unwrap(api.GET('/api/admin/upstreams', { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: poll,
  })
}

/** One upstream as it is now, and the ETag to change it with. */
export function useUpstream(id: MaybeRefOrGetter<string | undefined>, { isLive }: { isLive: boolean }) {
  return useQuery({
    queryKey: [KEY, 'one', id],
    queryFn: () => unwrapTagged(api.GET('/api/admin/upstreams/{id}', path(toValue(id) ?? ''))),
    enabled: () => toValue(id) !== undefined,
    refetchInterval: isLive ? poll : false,
    // A form must not be pulled away under the one who fills it in.
    refetchOnWindowFocus: isLive,
  })
}

export function useUpstreamTools(id: MaybeRefOrGetter<string>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'tools', id],
    queryFn: ({ pageParam }) => {
      const params = { ...path(toValue(id)).params, query: { limit: PAGE, cursor: pageParam } }
      return unwrap(api.GET('/api/admin/upstreams/{id}/tools', { params }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    refetchInterval: poll,
  })
}

const live = <Data>(name: string, id: MaybeRefOrGetter<string>, ask: (id: string) => Promise<Data>) =>
  useQuery({
    queryKey: [KEY, name, id],
    queryFn: () => ask(toValue(id)),
    refetchInterval: poll,
  })

export const useFindings = (id: MaybeRefOrGetter<string>) =>
  live(
    'findings',
    id,
    async (id) => (await unwrap(api.GET('/api/admin/upstreams/{id}/findings', path(id)))).items,
  )

export const useChecks = (id: MaybeRefOrGetter<string>) =>
  live(
    'checks',
    id,
    async (id) => (await unwrap(api.GET('/api/admin/upstreams/{id}/checks', path(id)))).items,
  )

export const useStderr = (id: MaybeRefOrGetter<string>) =>
  live('logs', id, async (id) => (await unwrap(api.GET('/api/admin/upstreams/{id}/logs', path(id)))).lines)

export const useCreateUpstream = () =>
  useMutation({
    mutationFn: (body: NewUpstream) => unwrap(api.POST('/api/admin/upstreams', { body })),
    onSuccess: refresh,
  })

export const useUpdateUpstream = () =>
  useMutation({
    mutationFn: ({ id, etag, patch }: { id: string; etag: string; patch: UpstreamPatch }) => {
      const params = { ...path(id).params, header: { 'If-Match': etag } }
      return unwrap(api.PATCH('/api/admin/upstreams/{id}', { params, body: patch }))
    },
    onSuccess: refresh,
  })

/** Puts all upstreams in order, whole or not at all. Refused if one was added or deleted meanwhile. */
export const useReorderUpstreams = () =>
  useMutation({
    mutationFn: (ids: string[]) => unwrap(api.POST('/api/admin/upstreams/reorder', { body: { ids } })),
    onSettled: refresh,
  })

export const useDeleteUpstream = () =>
  useMutation({
    mutationFn: (id: string) => unwrap(api.DELETE('/api/admin/upstreams/{id}', path(id))),
    onSuccess: (_, id) => {
      // Not refetched on the way out: it would only be told that it is gone.
      queryClient.removeQueries({ predicate: ({ queryKey }) => queryKey[0] === KEY && queryKey[2] === id })
      return queryClient.invalidateQueries({ queryKey: [KEY, 'list'] })
    },
  })

export const useSwitchUpstream = () =>
  useMutation({
    mutationFn: ({ id, enabled }: { id: string; enabled: boolean }) =>
      enabled
        ? unwrap(api.POST('/api/admin/upstreams/{id}/enable', path(id)))
        : unwrap(api.POST('/api/admin/upstreams/{id}/disable', path(id))),
    onSettled: refresh,
  })

export const useReconnect = () =>
  useMutation({
    mutationFn: async (id: string) => {
      await unwrap(api.POST('/api/admin/upstreams/{id}/reconnect', path(id)))
    },
    onSettled: refresh,
  })

/** Leaves for the authorization server; the browser comes back to the page of the upstream. */
export const useAuthorize = () =>
  useMutation({
    mutationFn: async ({ id, body }: { id: string; body: { clientId?: string; clientSecret?: string } }) => {
      const started = await unwrap(api.POST('/api/admin/upstreams/{id}/oauth/start', { ...path(id), body }))
      // What a server of others writes may be anything; only a web page may follow this one.
      const url = new URL(started.authorizationUrl)
      if (!['http:', 'https:'].includes(url.protocol)) throw new Error('not a web page')
      window.location.assign(url.href)
    },
  })

export const useForgetAuthorization = () =>
  useMutation({
    mutationFn: async (id: string) => {
      await unwrap(api.DELETE('/api/admin/upstreams/{id}/oauth', path(id)))
    },
    onSettled: refresh,
  })

export const useSync = () =>
  useMutation({
    mutationFn: (id: string) => unwrap(api.POST('/api/admin/upstreams/{id}/sync', path(id))),
    onSettled: refresh,
  })

/** Tries a configuration; `id` names the stored upstream whose secrets the placeholders stand for. */
export const useTestUpstream = () =>
  useMutation({
    mutationFn: ({ body, id }: { body: NewUpstream; id?: string }) =>
      unwrap(api.POST('/api/admin/upstreams/test', { body: { ...body, id } })),
  })

/** One answer for each: that some failed is no failure of the request. */
export const useBulk = () =>
  useMutation({
    mutationFn: (body: { action: BulkAction; ids: string[] }) =>
      unwrap(api.POST('/api/admin/upstreams/bulk', { body })),
    onSettled: refresh,
  })
