// What the palette offers: pages and actions at once, upstreams and tools as soon as something is typed.
import { Archive, KeyRound, Languages, LogOut, Moon, Plus, Server, Sun, Wrench } from '@lucide/vue'
import { keepPreviousData, useQuery } from '@tanstack/vue-query'
import { refDebounced } from '@vueuse/core'
import { storeToRefs } from 'pinia'
import { computed } from 'vue'
import type { Component, Ref } from 'vue'
import { useI18n } from 'vue-i18n'
import { useRouter } from 'vue-router'
import { api, unwrap } from '@/api/client'
import { chooseLocale } from '@/i18n'
import { useTheme } from '@/theme/store'
import { useNavigation } from './pages'
import { useSignOut } from './signOut'

export interface Command {
  id: string
  label: string
  note?: string
  icon: Component
  run: () => void
}

const FOUND_MAX = 6 // Of each kind: more would push the other kind off the screen.
const TYPING_PAUSE_MS = 150

export function useCommands(typed: Ref<string>) {
  const { t, locale } = useI18n()
  const router = useRouter()
  const { pages } = useNavigation()
  const signOut = useSignOut()
  const { theme, isDark } = storeToRefs(useTheme())
  const go = (path: string) => () => void router.push(path)
  const search = refDebounced(
    computed(() => typed.value.trim()),
    TYPING_PAUSE_MS,
  )
  const found = useQuery({
    queryKey: ['palette', search],
    queryFn: async () => {
      const params = { query: { search: search.value, limit: FOUND_MAX } }
      const [upstreams, tools] = await Promise.all([
        unwrap(api.GET('/api/admin/upstreams', { params })),
        unwrap(api.GET('/api/admin/tools', { params })),
      ])
      return { upstreams: upstreams.items, tools: tools.items }
    },
    enabled: () => search.value !== '',
    placeholderData: keepPreviousData,
  })

  const actions = computed<Command[]>(() => [
    { id: 'new-upstream', label: t('upstreams.new'), icon: Plus, run: go('/upstreams/new') },
    { id: 'new-key', label: t('keys.new'), icon: KeyRound, run: go('/keys/new') },
    { id: 'backup', label: t('settings.backup.link'), icon: Archive, run: go('/settings/backup') },
    {
      id: 'theme',
      label: isDark.value ? t('layout.palette.toLight') : t('layout.palette.toDark'),
      icon: isDark.value ? Sun : Moon,
      run: () => (theme.value = isDark.value ? 'light' : 'dark'),
    },
    {
      id: 'language',
      label: t('layout.otherLanguage'),
      icon: Languages,
      run: () => void chooseLocale(locale.value === 'en' ? 'zh-CN' : 'en'),
    },
    { id: 'sign-out', label: t('session.signOut'), icon: LogOut, run: signOut },
  ])
  const destinations = computed<Command[]>(() =>
    pages.map(({ path, title, icon }) => ({ id: path, label: t(title), icon, run: go(path) })),
  )
  const matches = ({ label }: Command) =>
    label.toLocaleLowerCase().includes(typed.value.trim().toLocaleLowerCase())

  const groups = computed((): { name: string; commands: Command[] }[] => {
    const { upstreams = [], tools = [] } = (search.value && found.data.value) || {}
    return [
      { name: 'pages', commands: destinations.value.filter(matches) },
      { name: 'actions', commands: actions.value.filter(matches) },
      {
        name: 'upstreams',
        commands: upstreams.map(({ id, name }) => ({
          id,
          label: name,
          icon: Server,
          run: go(`/upstreams/${id}`),
        })),
      },
      {
        name: 'tools',
        commands: tools.map(({ id, exposedName, upstreamName }) => ({
          id,
          label: exposedName,
          note: upstreamName ?? undefined,
          icon: Wrench,
          run: go(`/tools?search=${encodeURIComponent(exposedName)}`),
        })),
      },
    ].filter(({ commands }) => commands.length > 0)
  })
  return { groups, isSearching: found.isFetching }
}
