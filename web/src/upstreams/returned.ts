// How it went at an authorization server: the gateway sends the browser back here with a word of it.
import { onMounted } from 'vue'
import { useI18n } from 'vue-i18n'
import { useRoute, useRouter } from 'vue-router'
import { toast } from '@/ui/toasts'

const ENDINGS = [
  'authorized',
  'expired',
  'session-ended',
  'moved',
  'declined',
  'foreign-issuer',
  'failed',
] as const
type Ending = (typeof ENDINGS)[number]

const isEnding = (word: unknown): word is Ending => ENDINGS.includes(word as Ending)

/** Says it once, and takes it out of the address. A word that we don't know is nobody's. */
export function useReturned() {
  const { t } = useI18n()
  const route = useRoute()
  const router = useRouter()
  onMounted(() => {
    const { oauth, ...query } = route.query
    if (oauth === undefined) return
    if (isEnding(oauth)) toast(t(`upstreams.oauth.ending.${oauth}`))
    void router.replace({ query })
  })
}
