import type { RouteRecordRaw } from 'vue-router'

export const toolRoutes: RouteRecordRaw[] = [
  { path: '/tools', component: () => import('./List.vue'), meta: { title: 'tools.title' } },
]
