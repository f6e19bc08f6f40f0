// Everything that the console asks and tells about API keys.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { ApiKeyPatch, NewApiKey } from '@/api/types'

const KEY = 'keys'
const PAGE = 50
const CHOICES_MAX = 200 // What a page of the API holds at most; a longer choice would need a search.

const path = (id: string) => ({ params: { path: { id } } })
const refresh = () => queryClient.invalidateQueries({ queryKey: [KEY] })

export function useKeys(search: MaybeRefOrGetter<string>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'list', search],
    queryFn: ({ pageParam }) => {
      const query = { limit: PAGE, cursor: pageParam, search: toValue(search) || undefined }
      return unwrap(api.GET('/api/admin/keys', { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
  })
}

/** The upstreams that a key may be limited to. */
export const useUpstreamChoices = () =>
  useQuery({
    queryKey: ['upstreams', 'choices'],
    queryFn: async () => {
      const page = await unwrap(
        api.GET('/api/admin/upstreams', { params: { query: { limit: CHOICES_MAX } } }),
      )
      return page.items.map(({ id, name }) => ({ id, name }))
    },
  })

/** The answer holds the secret, once. It is kept by nobody but the page that shows it. */
export const useCreateKey = () =>
  useMutation({
    mutationFn: (body: NewApiKey) => unwrap(api.POST('/api/admin/keys', { body })),
    onSuccess: refresh,
    gcTime: 0,
  })

export const useSwitchKey = () =>
  useMutation({
    mutationFn: ({ id, enabled }: { id: string; enabled: boolean }) =>
      enabled
        ? unwrap(api.POST('/api/admin/keys/{id}/enable', path(id)))
        : unwrap(api.POST('/api/admin/keys/{id}/disable', path(id))),
    onSettled: refresh,
  })

export const useDeleteKey = () =>
  useMutation({
    mutationFn: (id: string) => unwrap(api.DELETE('/api/admin/keys/{id}', path(id))),
    onSettled: refresh,
  })

/** One key as it is now, and the ETag to change it with. */
export const useKey = (id: MaybeRefOrGetter<string | undefined>) =>
  useQuery({
    queryKey: [KEY, 'one', id],
    queryFn: () => unwrapTagged(api.GET('/api/admin/keys/{id}', path(toValue(id) ?? ''))),
    enabled: () => toValue(id) !== undefined,
    refetchOnWindowFocus: false,
  })

export const useUsage = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: [KEY, 'usage', id],
    queryFn: () => unwrap(api.GET('/api/admin/keys/{id}/usage', path(toValue(id)))),
  })

export const useKeySessions = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: [KEY, 'sessions', id],
    queryFn: async () => (await unwrap(api.GET('/api/admin/keys/{id}/sessions', path(toValue(id))))).items,
  })

export const useEndKeySession = () =>
  useMutation({
    mutationFn: ({ id, sid }: { id: string; sid: string }) =>
      unwrap(api.DELETE('/api/admin/keys/{id}/sessions/{sid}', { params: { path: { id, sid } } })),
    onSettled: refresh,
  })

export const useUpdateKey = () =>
  useMutation({
    mutationFn: ({ id, etag, patch }: { id: string; etag: string; patch: ApiKeyPatch }) => {
      const params = { ...path(id).params, header: { 'If-Match': etag } }
      return unwrap(api.PATCH('/api/admin/keys/{id}', { params, body: patch }))
    },
    onSuccess: refresh,
  })

/** The answer holds the new secret, once, as that of a new key does. */
export const useRotateKey = () =>
  useMutation({
    mutationFn: ({ id, overlapS }: { id: string; overlapS: number }) =>
      unwrap(api.POST('/api/admin/keys/{id}/rotate', { ...path(id), body: { overlapS } })),
    onSuccess: refresh,
    gcTime: 0,
  })
