// What the console asks about tools, over all upstreams.
import { keepPreviousData, useInfiniteQuery, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'

const PAGE = 50

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
