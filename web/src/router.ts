// Every page, and who may see it: nobody before the first admin exists, then whoever is signed in.
import type { Component } from 'vue'
import { createRouter, createWebHistory } from 'vue-router'
import type { RouteRecordRaw, Router } from 'vue-router'
import { queryClient } from './api/query'
import { i18n } from './i18n'
import { statusQuery } from './session/queries'
import { useSession } from './session/store'

declare module 'vue-router' {
  interface RouteMeta {
    /** Seen without signing in. */
    isPublic?: boolean
    /** The key of the page's title. */
    title?: string
    /** Uses the whole width of a large screen: lists and charts do, forms don't. */
    isWide?: boolean
    /** Stands in the navigation, under its title; the lowest order first. */
    nav?: { icon: Component; order: number }
  }
}

/** Each noun's pages: src/<noun>/routes.ts. */
const nouns = import.meta.glob<RouteRecordRaw[]>('./*/routes.ts', { eager: true, import: 'default' })

export function createConsoleRouter(): Router {
  const router = createRouter({
    history: createWebHistory(),
    routes: [
      { path: '/', redirect: '/overview' },
      ...Object.values(nouns).flat(),
      {
        path: '/:path(.*)*',
        component: () => import('./layout/NotFound.vue'),
        meta: { title: 'layout.notFound.title' },
      },
    ],
    scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  })
  router.beforeEach(async (to) => {
    const session = useSession()
    if (session.token) return to.name === 'login' || to.name === 'register' ? '/' : true
    // Without the answer we can't know; the page itself then says that the gateway can't be reached.
    const initialized = await queryClient.fetchQuery(statusQuery).then(
      (status) => status.initialized,
      () => true,
    )
    if (!initialized) return to.name === 'register' ? true : { name: 'register' }
    if (to.name === 'login') return true
    return { name: 'login', query: to.path === '/' ? {} : { next: to.fullPath } }
  })
  router.afterEach((to) => {
    const title = to.meta.title ? `${i18n.global.t(to.meta.title)} · ` : ''
    document.title = `${title}MCP Proxy Gateway`
  })
  return router
}
