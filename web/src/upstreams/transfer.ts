// Bringing upstreams in from a client's own file, and writing such a file.
import { useMutation } from '@tanstack/vue-query'
import { api, unwrap } from '@/api/client'
import { queryClient } from '@/api/query'
import { save } from '@/ui/download'

export const FORMATS = ['mcp', 'vscode', 'codex', 'registry'] as const
export type Format = (typeof FORMATS)[number]

const FILES: Record<Format, string> = {
  mcp: 'mcp.json',
  vscode: 'mcp.json',
  codex: 'config.toml',
  registry: 'server.json',
}

export interface Import {
  file: string
  isDryRun: boolean
  only?: string[]
  replace?: string[]
}

/** Kept by nobody but the page: the file may hold secrets. */
export const useImport = () =>
  useMutation({
    mutationFn: ({ file, isDryRun, only, replace }: Import) =>
      unwrap(
        api.POST('/api/admin/upstreams/import', {
          params: { query: { dryRun: isDryRun, only, replace } },
          // As it is: which of the formats it has, the gateway tells by looking.
          body: file as never,
          bodySerializer: (text) => text,
          headers: { 'Content-Type': 'text/plain' },
        }),
      ),
    onSuccess: (_, { isDryRun }) =>
      isDryRun ? undefined : queryClient.invalidateQueries({ queryKey: ['upstreams'] }),
    gcTime: 0,
  })

/** Hands the file to the browser; resolves to the names that the format can't say. */
export const useExport = () =>
  useMutation({
    mutationFn: async (format: Format) => {
      const answer = api.GET('/api/admin/upstreams/export', {
        params: { query: { format } },
        parseAs: 'blob',
      })
      const { response } = await answer
      save(FILES[format], (await unwrap(answer)) as Blob)
      const left = response.headers.get('mpg-left-out') ?? ''
      return left.split(',').filter(Boolean).map(decodeURIComponent)
    },
  })
