// The market of templates, and what one becomes when its form is filled in.
import { keepPreviousData, useMutation, useQuery } from '@tanstack/vue-query'
import { toValue } from 'vue'
import type { MaybeRefOrGetter } from 'vue'
import { api, unwrap } from '@/api/client'
import type { TemplateCategory } from '@/api/types'

const KEY = 'templates'

export const useTemplates = (
  search: MaybeRefOrGetter<string>,
  category: MaybeRefOrGetter<TemplateCategory | ''>,
) =>
  useQuery({
    queryKey: [KEY, 'list', search, category],
    queryFn: async () => {
      const query = { search: toValue(search) || undefined, category: toValue(category) || undefined }
      return (await unwrap(api.GET('/api/admin/templates', { params: { query } }))).items
    },
    placeholderData: keepPreviousData,
  })

export const useCategories = () =>
  useQuery({
    queryKey: [KEY, 'categories'],
    queryFn: async () => (await unwrap(api.GET('/api/admin/templates/categories'))).items,
  })

export const useTemplate = (id: MaybeRefOrGetter<string>) =>
  useQuery({
    queryKey: [KEY, 'one', id],
    queryFn: () => unwrap(api.GET('/api/admin/templates/{id}', { params: { path: { id: toValue(id) } } })),
    refetchOnWindowFocus: false,
  })

/** The answer may hold secrets that were typed: nobody keeps it but the form that it goes to. */
export const useBuild = () =>
  useMutation({
    mutationFn: ({ id, values }: { id: string; values: Record<string, string> }) =>
      unwrap(api.POST('/api/admin/templates/{id}/build', { params: { path: { id } }, body: { values } })),
    gcTime: 0,
  })
