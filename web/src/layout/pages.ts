// The pages of the navigation: found through the routes' `meta.nav`, grouped by what one comes for.
import { computed } from 'vue'
import type { Component } from 'vue'
import { useRoute, useRouter } from 'vue-router'

export interface NavPage {
  path: string
  /** The key of its title. */
  title: string
  icon: Component
  order: number
}

/** A group holds the orders up to its last. The first needs no heading: it is the page one starts at. */
const GROUPS = [
  { name: 'start', last: 19 },
  { name: 'gateway', last: 59 },
  { name: 'clients', last: 79 },
  { name: 'observe', last: 109 },
  { name: 'system', last: Number.POSITIVE_INFINITY },
] as const

/** Where the thumb goes on a phone: the rest is one tap further, behind "More". */
const MAIN = ['/overview', '/upstreams', '/tools', '/keys']

export function useNavigation() {
  const route = useRoute()
  const pages = useRouter()
    .getRoutes()
    .flatMap(({ path, meta: { nav, title } }): NavPage[] => (nav && title ? [{ path, title, ...nav }] : []))
    .sort((one, other) => one.order - other.order)
  const groups = GROUPS.map(({ name, last }, index) => {
    const first = GROUPS[index - 1]?.last ?? Number.NEGATIVE_INFINITY
    return { name, pages: pages.filter(({ order }) => order > first && order <= last) }
  }).filter((group) => group.pages.length > 0)
  const isCurrent = (path: string) => route.path === path || route.path.startsWith(`${path}/`)
  const main = pages.filter(({ path }) => MAIN.includes(path))
  const rest = groups
    .map((group) => ({ ...group, pages: group.pages.filter((page) => !main.includes(page)) }))
    .filter((group) => group.pages.length > 0)
  return {
    pages,
    groups,
    main,
    rest,
    isCurrent,
    isInRest: computed(() => rest.some((group) => group.pages.some(({ path }) => isCurrent(path)))),
  }
}
