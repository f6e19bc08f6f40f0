import { Bot } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/xiaozhi',
    component: () => import('./List.vue'),
    meta: { title: 'xiaozhi.title', nav: { icon: Bot, order: 70 } },
  },
  { path: '/xiaozhi/new', component: () => import('./Form.vue'), meta: { title: 'xiaozhi.new' } },
  {
    path: '/xiaozhi/:id',
    component: () => import('./Form.vue'),
    props: true,
    meta: { title: 'xiaozhi.one' },
  },
]

export default routes
