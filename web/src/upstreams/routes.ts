import type { RouteRecordRaw } from 'vue-router'

export const upstreamRoutes: RouteRecordRaw[] = [
  { path: '/upstreams', component: () => import('./List.vue'), meta: { title: 'upstreams.title' } },
  { path: '/upstreams/new', component: () => import('./Form.vue'), meta: { title: 'upstreams.new' } },
  {
    path: '/upstreams/:id',
    component: () => import('./Detail.vue'),
    props: true,
    meta: { title: 'upstreams.one' },
  },
  {
    path: '/upstreams/:id/edit',
    component: () => import('./Form.vue'),
    props: true,
    meta: { title: 'upstreams.edit' },
  },
]
