// What the console asks and tells about tools, prompts and resources, over all upstreams.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { PlaygroundCall } from '@/api/types'

export const NOUNS = ['tools', 'prompts', 'resources'] as const
export type Noun = (typeof NOUNS)[number]

const KEY = 'tools'
const PAGE = 200 // What a page of the API holds at most: ten thousand are fifty of them.
const CHOICES_MAX = 200

/** The three nouns have the same operations with the same bodies; the types are those of the first. */
const listOf = (noun: Noun) => `/api/admin/${noun}` as '/api/admin/tools'
const oneOf = (noun: Noun) => `/api/admin/${noun}/{id}` as '/api/admin/tools/{id}'
const path = (id: string) => ({ params: { path: { id } } })
const refresh = () => queryClient.invalidateQueries({ queryKey: [KEY] })

export interface Filters {
  noun: Noun
  search: string
  upstreamId: string
  keyId: string
  review: string
  sort: string
}

export function useItems(filters: MaybeRefOrGetter<Filters>) {
  return useInfiniteQuery({
    queryKey: [KEY, 'list', filters],
    queryFn: ({ pageParam }) => {
      const { noun, search, upstreamId, keyId, review, sort } = toValue(filters)
      const query = {
        limit: PAGE,
        cursor: pageParam,
        search: search || undefined,
        upstreamId: upstreamId || undefined,
        keyId: keyId || undefined,
        review: review === 'true' || undefined,
        sort: sort || undefined,
      }
      return unwrap(api.GET(listOf(noun), { params: { query } }))
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
    placeholderData: (previous, query) =>
      // What another noun has is no stand-in for this one's.
      (query?.queryKey[2] as Filters | undefined)?.noun === toValue(filters).noun
        ? keepPreviousData(previous)
        : undefined,
  })
}

/** A tool's definition as its upstream sent it; asked for when somebody wants to see it. */
export function useDefinition(id: MaybeRefOrGetter<string>, isWanted: MaybeRefOrGetter<boolean>) {
  return useQuery({
    queryKey: [KEY, 'definition', id],
    queryFn: async () => {
      const { stored } = await unwrap(api.GET('/api/admin/tools/{id}', path(toValue(id))))
      return stored.definition as Record<string, unknown>
    },
    enabled: isWanted,
  })
}

export const useItem = (noun: MaybeRefOrGetter<Noun>, id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: [KEY, 'one', noun, id],
    queryFn: () => unwrapTagged(api.GET(oneOf(toValue(noun)), path(toValue(id)))),
  })

/** Why a key sees it or not; without a key, what every key starts from. */
export const useExplanation = (
  noun: MaybeRefOrGetter<Noun>,
  id: MaybeRefOrGetter<string>,
  keyId: MaybeRefOrGetter<string>,
) =>
  useQuery({
    queryKey: [KEY, 'explain', noun, id, keyId],
    queryFn: () => {
      const params = { ...path(toValue(id)).params, query: { keyId: toValue(keyId) || undefined } }
      const at = `${oneOf(toValue(noun))}/explain` as '/api/admin/tools/{id}/explain'
      return unwrap(api.GET(at, { params }))
    },
    placeholderData: keepPreviousData,
  })

export const useUpdateItem = () =>
  useMutation({
    mutationFn: ({
      noun,
      id,
      version,
      patch,
    }: {
      noun: Noun
      id: string
      version: number
      patch: { enabled?: boolean; sortOrder?: number | null }
    }) => {
      const params = { ...path(id).params, header: { 'If-Match': `"${version}"` } }
      return unwrap(api.PATCH(oneOf(noun), { params, body: patch }))
    },
    onSettled: refresh,
  })

/** Agrees to the definition that has this hash, and to no later one. */
export const useApprove = () =>
  useMutation({
    mutationFn: ({ noun, id, hash }: { noun: Noun; id: string; hash: string }) => {
      const at = `${oneOf(noun)}/approve` as '/api/admin/tools/{id}/approve'
      return unwrap(api.POST(at, { ...path(id), body: { hash } }))
    },
    onSettled: refresh,
  })

export const useRelease = () =>
  useMutation({
    mutationFn: ({ noun, id }: { noun: Noun; id: string }) => {
      const at = `${oneOf(noun)}/release` as '/api/admin/tools/{id}/release'
      return unwrap(api.POST(at, path(id)))
    },
    onSettled: refresh,
  })

/** The keys that a tool can be tried as. */
export const useCallers = () =>
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
