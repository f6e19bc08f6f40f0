// Making a backup, looking at what a restore would do, and restoring.
import { useMutation } from '@tanstack/vue-query'
import { api, unwrap } from '@/api/client'
import { queryClient } from '@/api/query'
import { save } from '@/ui/download'
import { bodyOf, fileName } from './document'
import type { Restore } from './document'

/** Hands the document to the browser, byte by byte as the gateway wrote it. */
export const useSave = () =>
  useMutation({
    mutationFn: async (passphrase: string) => {
      const answer = api.POST('/api/admin/backup/export', {
        body: { passphrase: passphrase || null },
        parseAs: 'blob',
      })
      save(fileName(new Date()), (await unwrap(answer)) as unknown as Blob)
    },
    gcTime: 0,
  })

const asItIs = (restore: Restore) => ({
  body: restore as never,
  bodySerializer: () => bodyOf(restore),
  headers: { 'Content-Type': 'application/json' },
})

/** Changes nothing. */
export const usePreview = () =>
  useMutation({
    mutationFn: (restore: Restore) => unwrap(api.POST('/api/admin/backup/preview', asItIs(restore))),
    gcTime: 0,
  })

export const useRestore = () =>
  useMutation({
    mutationFn: (restore: Restore) => unwrap(api.POST('/api/admin/backup/import', asItIs(restore))),
    // Whatever any page shows may be another.
    onSuccess: () => queryClient.invalidateQueries(),
    gcTime: 0,
  })
