// The settings, and the change of them.
import { useMutation, useQuery } from '@tanstack/vue-query'
import { api, unwrap, unwrapTagged } from '@/api/client'
import { queryClient } from '@/api/query'
import type { Groups } from './draft'

const KEY = ['settings']

export const useSettings = () =>
  useQuery({
    queryKey: KEY,
    queryFn: () => unwrapTagged(api.GET('/api/admin/settings')),
    refetchOnWindowFocus: false,
  })

export const useChangeSettings = () =>
  useMutation({
    mutationFn: ({ etag, patch }: { etag: string; patch: Groups }) =>
      unwrap(
        api.PATCH('/api/admin/settings', {
          params: { header: { 'If-Match': etag } },
          body: patch as never,
        }),
      ),
    onSuccess: () => queryClient.invalidateQueries({ queryKey: KEY }),
  })
