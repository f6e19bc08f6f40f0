// How answers are kept and asked for again.
import { QueryClient } from '@tanstack/vue-query'
import { Problem } from './problem'

const RETRIES_MAX = 2

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      // What the gateway refuses, it refuses again; only a lost connection is worth another try.
      retry: (count, error) => count < RETRIES_MAX && error instanceof Problem && error.code === 'OFFLINE',
    },
  },
})
