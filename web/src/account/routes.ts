import { CircleUser } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/account',
    component: () => import('./Page.vue'),
    meta: { title: 'account.title', nav: { icon: CircleUser, order: 120 } },
  },
]

export default routes
