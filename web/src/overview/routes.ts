import { LayoutDashboard } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/overview',
    component: () => import('./Overview.vue'),
    meta: { title: 'overview.title', isWide: true, nav: { icon: LayoutDashboard, order: 10 } },
  },
]

export default routes
