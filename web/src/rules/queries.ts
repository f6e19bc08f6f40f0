// Everything that the console asks and tells about rules.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { computed, toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { PreviewAsk } from '@/api/types'
import { aliasOf, filterOf } from './draft'
import type { Draft, Rule, RuleKind } from './draft'
import type { Owner } from './owner'

const KEY = 'rules'
const PAGE = 200 // What an owner may have of a kind, so that one page holds all that are put in order.

/** What rules decide shows in the lists of items, too. */
async function refresh() {
  await Promise.all([KEY, 'tools'].map((key) => queryClient.invalidateQueries({ queryKey: [key] })))
}

const path = (id: string) => ({ params: { path: { id } } })
const ownedBy = (owner: Owner | undefined) => ({
  upstreamId: owner?.type === 'upstream' ? (owner.id ?? undefined) : undefined,
  keyId: owner?.type === 'key' ? (owner.id ?? undefined) : undefined,
  owner: owner?.type === 'all' ? 'all' : undefined,
})

interface Wanted {
  kind: RuleKind
  /** Nobody in particular: everybody's. */
  owner: Owner | undefined
  search: string
}

export function useRules(wanted: MaybeRefOrGetter<Wanted>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'list', computed(() => toValue(wanted))],
    queryFn: ({ pageParam }) => {
      const { kind, owner, search } = toValue(wanted)
      const query = { limit: PAGE, cursor: pageParam, search: search || undefined, ...ownedBy(owner) }
      return list(kind, query)
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
  })
}

interface Page {
  items: Rule[]
  damaged: { id: string; message: string }[]
  total: number
  nextCursor?: string | null
}

const list = (kind: RuleKind, query: object): Promise<Page> =>
  kind === 'alias'
    ? unwrap(api.GET('/api/admin/rules/aliases', { params: { query } }))
    : unwrap(api.GET('/api/admin/rules/filters', { params: { query } }))

/** All rules of one owner, which a draft is previewed among. */
export const useOwnRules = (kind: MaybeRefOrGetter<RuleKind>, owner: MaybeRefOrGetter<Owner>) =>
  useQuery({
    queryKey: [KEY, 'own', kind, owner],
    queryFn: async () => (await list(toValue(kind), { limit: PAGE, ...ownedBy(toValue(owner)) })).items,
  })

/** One rule as it is now, and the ETag to change it with. */
export const useRule = (kind: MaybeRefOrGetter<RuleKind>, id: MaybeRefOrGetter<string | undefined>) =>
  useQuery({
    queryKey: [KEY, 'one', kind, id],
    queryFn: (): Promise<{ data: Rule; etag: string }> =>
      toValue(kind) === 'alias'
        ? unwrapTagged(api.GET('/api/admin/rules/aliases/{id}', path(toValue(id) ?? '')))
        : unwrapTagged(api.GET('/api/admin/rules/filters/{id}', path(toValue(id) ?? ''))),
    enabled: () => toValue(id) !== undefined,
    refetchOnWindowFocus: false, // A form must not be pulled away under the one who fills it in.
  })

export const useCreateRule = () =>
  useMutation({
    mutationFn: ({ kind, owner, draft }: { kind: RuleKind; owner: Owner; draft: Draft }): Promise<Rule> =>
      kind === 'alias'
        ? unwrap(api.POST('/api/admin/rules/aliases', { body: { owner, ...aliasOf(draft, owner) } }))
        : unwrap(api.POST('/api/admin/rules/filters', { body: { owner, ...filterOf(draft, owner) } })),
    onSuccess: refresh,
  })

interface Change {
  kind: RuleKind
  id: string
  etag: string
}

const change = ({ kind, id, etag }: Change, body: object): Promise<Rule> => {
  const params = { ...path(id).params, header: { 'If-Match': etag } }
  return kind === 'alias'
    ? unwrap(api.PATCH('/api/admin/rules/aliases/{id}', { params, body }))
    : unwrap(api.PATCH('/api/admin/rules/filters/{id}', { params, body }))
}

export const useUpdateRule = () =>
  useMutation({
    mutationFn: ({ owner, draft, ...one }: Change & { owner: Owner; draft: Draft }) =>
      change(one, one.kind === 'alias' ? aliasOf(draft, owner) : filterOf(draft, owner)),
    onSuccess: refresh,
  })

export const useSwitchRule = () =>
  useMutation({
    mutationFn: ({ rule, kind, enabled }: { rule: Rule; kind: RuleKind; enabled: boolean }) =>
      change({ kind, id: rule.id, etag: `"${rule.version}"` }, { enabled }),
    onSettled: refresh,
  })

export const useDeleteRule = () =>
  useMutation({
    mutationFn: ({ kind, id }: { kind: RuleKind; id: string }) =>
      kind === 'alias'
        ? unwrap(api.DELETE('/api/admin/rules/aliases/{id}', path(id)))
        : unwrap(api.DELETE('/api/admin/rules/filters/{id}', path(id))),
    onSettled: refresh,
  })

export const useReorderRules = () =>
  useMutation({
    mutationFn: ({ kind, owner, ids }: { kind: RuleKind; owner: Owner; ids: string[] }) =>
      kind === 'alias'
        ? unwrap(api.POST('/api/admin/rules/aliases/reorder', { body: { owner, ids } }))
        : unwrap(api.POST('/api/admin/rules/filters/reorder', { body: { owner, ids } })),
    onSettled: refresh,
  })

/** What the gateway says becomes of each item. */
export const usePreview = (ask: MaybeRefOrGetter<PreviewAsk | undefined>) =>
  useQuery({
    queryKey: [KEY, 'preview', computed(() => toValue(ask))],
    queryFn: () => unwrap(api.POST('/api/admin/rules/preview', { body: toValue(ask) ?? {} })),
    enabled: () => toValue(ask) !== undefined,
    placeholderData: keepPreviousData,
  })
