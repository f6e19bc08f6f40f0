// Everything that the console asks and tells about XiaoZhi endpoints.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { NewXiaozhiEndpoint, XiaozhiEndpointPatch } from '@/api/types'
import { useSession } from '@/session/store'

const KEY = 'xiaozhi'
// States change by themselves; nor is asked while the page waits for the password.
const POLL_MS = 3_000
const PAGE = 50

const path = (id: string) => ({ params: { path: { id } } })
const refresh = () => queryClient.invalidateQueries({ queryKey: [KEY] })

export const useEndpoints = (search: MaybeRefOrGetter<string>) =>
  useInfiniteQuery({
    queryKey: [KEY, 'list', search],
    queryFn: ({ pageParam }) => {
      const query = { limit: PAGE, cursor: pageParam, search: toValue(search) || undefined }
      return unwrap(api.GET('/api/admin/xiaozhi', { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: () => (useSession().isExpired ? false : POLL_MS),
  })

export const useEndpoint = (id: MaybeRefOrGetter<string | undefined>) =>
  useQuery({
    queryKey: [KEY, 'one', id],
    queryFn: () => unwrapTagged(api.GET('/api/admin/xiaozhi/{id}', path(toValue(id) ?? ''))),
    enabled: () => toValue(id) !== undefined,
    refetchOnWindowFocus: false,
  })

/** The address holds the endpoint's token: it is sent, and forgotten. */
export const useSaveEndpoint = () =>
  useMutation({
    mutationFn: ({
      body,
      before,
    }: {
      body: NewXiaozhiEndpoint | XiaozhiEndpointPatch
      before?: { id: string; etag: string }
    }) =>
      before
        ? unwrap(
            api.PATCH('/api/admin/xiaozhi/{id}', {
              params: { path: { id: before.id }, header: { 'If-Match': before.etag } },
              body: body as XiaozhiEndpointPatch,
            }),
          )
        : unwrap(api.POST('/api/admin/xiaozhi', { body: body as NewXiaozhiEndpoint })),
    onSuccess: refresh,
    gcTime: 0,
  })

export const useReconnectEndpoint = () =>
  useMutation({
    mutationFn: async (id: string) => {
      await unwrap(api.POST('/api/admin/xiaozhi/{id}/reconnect', path(id)))
    },
    onSettled: refresh,
  })

export const useDeleteEndpoint = () =>
  useMutation({
    mutationFn: (id: string) => unwrap(api.DELETE('/api/admin/xiaozhi/{id}', path(id))),
    onSettled: refresh,
  })
