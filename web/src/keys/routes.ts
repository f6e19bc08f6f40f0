import type { RouteRecordRaw } from 'vue-router'

export const keyRoutes: RouteRecordRaw[] = [
  { path: '/keys', component: () => import('./List.vue'), meta: { title: 'keys.title' } },
  { path: '/keys/new', component: () => import('./Form.vue'), meta: { title: 'keys.new' } },
]
