// Who is signed in. The token lives in sessionStorage: no cookie anywhere, and it goes with the tab.
import { useSessionStorage } from '@vueuse/core'
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import { queryClient } from '@/api/query'
import type { SignedIn } from '@/api/types'
import { forget } from '@/tools/history'

export const useSession = defineStore('session', () => {
  const stored = useSessionStorage<Pick<SignedIn, 'token' | 'username'>>('session', {
    token: '',
    username: '',
  })
  const isExpired = ref(false)

  function signIn({ token, username }: SignedIn) {
    stored.value = { token, username }
    isExpired.value = false
    void queryClient.invalidateQueries()
  }

  function signOut() {
    stored.value = { token: '', username: '' }
    isExpired.value = false
    queryClient.clear()
    forget()
  }

  /** The page stays as it is, with what was typed into it, behind a dialog that asks for the password. */
  function expire() {
    if (stored.value.token) isExpired.value = true
  }

  return {
    token: computed(() => stored.value.token),
    username: computed(() => stored.value.username),
    isExpired,
    signIn,
    signOut,
    expire,
  }
})
