import { Wrench } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/tools',
    component: () => import('./List.vue'),
    meta: { title: 'tools.title', nav: { icon: Wrench, order: 30 } },
  },
  {
    path: '/tools/:id',
    component: () => import('./Detail.vue'),
    props: true,
    meta: { title: 'tools.one' },
  },
]

export default routes
