// Leaves: the session ends here in any case, and the page to sign in comes.
import { useRouter } from 'vue-router'
import { useLogout } from '@/session/queries'

export function useSignOut() {
  const router = useRouter()
  const { mutate } = useLogout()
  return () => mutate(undefined, { onSettled: () => void router.push({ name: 'login' }) })
}
