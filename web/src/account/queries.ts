// One's own password and sessions, and how the gateway fares.
import { useMutation, useQuery } from '@tanstack/vue-query'
import { api, unwrap } from '@/api/client'
import { queryClient } from '@/api/query'
import { useSession } from '@/session/store'

const SESSIONS = ['account', 'sessions']
const POLL_MS = 10_000
const refresh = () => queryClient.invalidateQueries({ queryKey: SESSIONS })

export const useSessions = () =>
  useQuery({
    queryKey: SESSIONS,
    queryFn: async () => (await unwrap(api.GET('/api/admin/auth/sessions'))).items,
  })

export const useEndSession = () =>
  useMutation({
    mutationFn: (id: string) =>
      unwrap(api.DELETE('/api/admin/auth/sessions/{id}', { params: { path: { id } } })),
    onSettled: refresh,
  })

export const useEndOthers = () =>
  useMutation({
    mutationFn: () => unwrap(api.DELETE('/api/admin/auth/sessions')),
    onSettled: refresh,
  })

export const useChangePassword = () =>
  useMutation({
    mutationFn: (body: { currentPassword: string; newPassword: string }) =>
      unwrap(api.POST('/api/admin/auth/change-password', { body })),
    gcTime: 0,
  })

export const useHealth = () =>
  useQuery({
    queryKey: ['health'],
    queryFn: () => unwrap(api.GET('/api/admin/health')),
    refetchInterval: () => (useSession().isExpired ? false : POLL_MS),
  })
