// Everything that the console asks about calls. The stream of events tells when there are new ones; that the range
// moves on with the clock, nobody tells: so they are asked for again every half minute, while the page is looked at.
import { keepPreviousData, useInfiniteQuery, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import type { paths } from '@/api/schema'
import { useSession } from '@/session/store'
import { offsetOf, spanOf } from './range'
import type { Range } from './range'

type CallQuery = NonNullable<paths['/api/admin/stats/calls']['get']['parameters']['query']>
export type Outcome = NonNullable<CallQuery['outcome']>
export type Method = NonNullable<CallQuery['method']>

/** Which calls. */
export interface Filters {
  range: Range
  upstreamId?: string
  keyId?: string
  name?: string
  outcome?: Outcome
  method?: Method
}

export type Dimension = 'upstream' | 'tool' | 'key'
export type RankSort = 'count' | 'errors' | 'p95Ms' | 'bytes'

const KEY = 'stats'
const REFRESH_MS = 30_000
const PAGE = 50
const refetchInterval = () => (useSession().isExpired ? false : REFRESH_MS)
const kept = { refetchInterval, placeholderData: keepPreviousData } as const

function queryOf({ range, ...filters }: Filters) {
  return { ...filters, ...spanOf(range, Date.now()) }
}

export const useSummary = (filters: MaybeRefOrGetter<Filters>) =>
  useQuery({
    queryKey: [KEY, 'summary', filters],
    queryFn: () =>
      unwrap(api.GET('/api/admin/stats/summary', { params: { query: queryOf(toValue(filters)) } })),
    ...kept,
  })

export const useTimeseries = (filters: MaybeRefOrGetter<Filters>) =>
  useQuery({
    queryKey: [KEY, 'timeseries', filters],
    queryFn: () => {
      const query = { ...queryOf(toValue(filters)), tz: offsetOf(new Date()) }
      return unwrap(api.GET('/api/admin/stats/timeseries', { params: { query } }))
    },
    ...kept,
  })

export interface Ranking {
  by: Dimension
  sort?: RankSort
  limit?: number
}

export const useRanking = (filters: MaybeRefOrGetter<Filters>, ranking: MaybeRefOrGetter<Ranking>) =>
  useQuery({
    queryKey: [KEY, 'ranking', filters, ranking],
    queryFn: () => {
      const query = { ...queryOf(toValue(filters)), ...toValue(ranking) }
      return unwrap(api.GET('/api/admin/stats/ranking', { params: { query } }))
    },
    ...kept,
  })

/** One page of calls; its cursor holds only for the same range, so the range stands still from page to page. */
export function pageOfCalls(filters: Omit<Filters, 'range'>, page: CallQuery) {
  return unwrap(api.GET('/api/admin/stats/calls', { params: { query: { ...filters, ...page } } }))
}

export function useCalls(filters: MaybeRefOrGetter<Filters>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'calls', filters],
    queryFn: async ({ pageParam }) => {
      const { range, ...rest } = toValue(filters)
      const { cursor, ...span } = pageParam ?? { ...spanOf(range, Date.now()), cursor: undefined }
      const page = await pageOfCalls(rest, { ...span, cursor, limit: PAGE })
      return { ...page, span }
    },
    initialPageParam: undefined as { from: string; to: string; cursor: string | undefined } | undefined,
    getNextPageParam: ({ nextCursor, span }) => (nextCursor ? { ...span, cursor: nextCursor } : undefined),
    placeholderData: keepPreviousData,
  })
}
