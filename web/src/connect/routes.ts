import { Plug } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/connect',
    component: () => import('./Page.vue'),
    meta: { title: 'connect.title', nav: { icon: Plug, order: 60 } },
  },
]

export default routes
