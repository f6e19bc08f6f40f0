import { Server } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/upstreams',
    component: () => import('./List.vue'),
    meta: { title: 'upstreams.title', nav: { icon: Server, order: 20 } },
  },
  { path: '/upstreams/new', component: () => import('./Form.vue'), meta: { title: 'upstreams.new' } },
  {
    path: '/upstreams/import',
    component: () => import('./Import.vue'),
    meta: { title: 'upstreams.import.title' },
  },
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

export default routes
