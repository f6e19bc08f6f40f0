// Everything that the console asks about the audit log.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import type { paths } from '@/api/schema'

type Query = NonNullable<paths['/api/admin/audit']['get']['parameters']['query']>
export type AuditFilters = Omit<Query, 'limit' | 'cursor' | 'sort'>
export type AuditEvent =
  paths['/api/admin/audit']['get']['responses'][200]['content']['application/json']['items'][number]

const KEY = 'audit'
const PAGE = 50

export function useAudit(filters: MaybeRefOrGetter<AuditFilters>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'list', filters],
    queryFn: ({ pageParam }) => {
      const query = { ...toValue(filters), limit: PAGE, cursor: pageParam }
      return unwrap(api.GET('/api/admin/audit', { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
  })
}

/** Reads the whole log: once for each visit, and when somebody asks. Not under `audit`, which each event makes stale. */
export const useVerdict = () =>
  useQuery({
    queryKey: ['audit-verdict'],
    queryFn: () => unwrap(api.GET('/api/admin/audit/verify')),
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnWindowFocus: false,
  })

export const useAuditExport = () =>
  useMutation({
    mutationFn: ({ filters, format }: { filters: AuditFilters; format: 'csv' | 'jsonl' }) =>
      unwrap(
        api.GET('/api/admin/audit/export', {
          params: { query: { ...filters, format } },
          parseAs: 'blob',
        }),
      ),
  })
