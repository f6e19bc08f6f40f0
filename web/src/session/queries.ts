// Registration, signing in and out, one's own password.
import { queryOptions, useMutation } from '@tanstack/vue-query'
import { api, unwrap } from '@/api/client'
import { queryClient } from '@/api/query'
import type { SignedIn } from '@/api/types'
import { useSession } from './store'

export const statusQuery = queryOptions({
  queryKey: ['status'],
  queryFn: () => unwrap(api.GET('/api/auth/status')),
})

export interface Credentials {
  username: string
  password: string
}

const login = (body: Credentials): Promise<SignedIn> => unwrap(api.POST('/api/auth/login', { body }))

export function useLogin() {
  const session = useSession()
  return useMutation({ mutationFn: login, onSuccess: (answer) => session.signIn(answer) })
}

export function useRegister() {
  const session = useSession()
  return useMutation({
    mutationFn: async ({ setupToken, ...body }: Credentials & { setupToken: string }) => {
      await unwrap(api.POST('/api/auth/register', { body: { ...body, setupToken: setupToken || null } }))
      await queryClient.invalidateQueries({ queryKey: ['status'] })
      return login(body)
    },
    onSuccess: (answer) => session.signIn(answer),
  })
}

export function useLogout() {
  const session = useSession()
  return useMutation({
    mutationFn: () => unwrap(api.POST('/api/admin/auth/logout')),
    // Gone from here in any case; a token that the gateway didn't hear of ends by itself.
    onSettled: () => session.signOut(),
  })
}
