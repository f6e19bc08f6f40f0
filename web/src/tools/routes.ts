import { Wrench } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/tools',
    component: () => import('./List.vue'),
    meta: { title: 'tools.title', nav: { icon: Wrench, order: 30 } },
  },
]

export default routes
