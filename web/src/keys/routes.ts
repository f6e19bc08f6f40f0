import { KeyRound } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/keys',
    component: () => import('./List.vue'),
    meta: { title: 'keys.title', nav: { icon: KeyRound, order: 50 } },
  },
  { path: '/keys/:id', component: () => import('./Detail.vue'), props: true, meta: { title: 'keys.one' } },
  {
    path: '/keys/:id/edit',
    component: () => import('./Form.vue'),
    props: true,
    meta: { title: 'keys.edit' },
  },
  { path: '/keys/new', component: () => import('./Form.vue'), meta: { title: 'keys.new' } },
]

export default routes
