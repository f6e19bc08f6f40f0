// What the console asks about tools, over all upstreams.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import type { PlaygroundCall } from '@/api/types'

const PAGE = 50
const CHOICES_MAX = 200 // What a page of the API holds at most.

export function useTools(search: MaybeRefOrGetter<string>) {
  return useInfiniteQuery({
    queryKey: ['tools', 'list', search],
    queryFn: ({ pageParam }) => {
      const query = { limit: PAGE, cursor: pageParam, search: toValue(search) || undefined }
      return unwrap(api.GET('/api/admin/tools', { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
  })
}

/** A tool's definition as its upstream sent it; asked for when somebody wants to see it. */
export function useDefinition(id: MaybeRefOrGetter<string>, isWanted: MaybeRefOrGetter<boolean>) {
  return useQuery({
    queryKey: ['tools', 'one', id],
    queryFn: async () => {
      const { stored } = await unwrap(
        api.GET('/api/admin/tools/{id}', { params: { path: { id: toValue(id) } } }),
      )
      return stored.definition as Record<string, unknown>
    },
    enabled: isWanted,
  })
}

export const useTool = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: ['tools', 'detail', id],
    queryFn: () => unwrap(api.GET('/api/admin/tools/{id}', { params: { path: { id: toValue(id) } } })),
  })

/** The keys that a tool can be tried as. */
export const useKeyChoices = () =>
  useQuery({
    queryKey: ['keys', 'callers'],
    queryFn: async () => {
      const page = await unwrap(api.GET('/api/admin/keys', { params: { query: { limit: CHOICES_MAX } } }))
      return page.items.filter(({ enabled }) => enabled).map(({ id, name }) => ({ id, name }))
    },
  })

/** A call counts as one of the key's: its limits hold, and it is on record. */
export const useCallTool = () =>
  useMutation({
    mutationFn: ({ arguments: given, ...call }: PlaygroundCall) =>
      unwrap(
        api.POST('/api/admin/tools/call', { body: { ...call, arguments: given as Record<string, never> } }),
      ),
  })
