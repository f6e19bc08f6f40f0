import { Terminal } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/logs',
    component: () => import('./Logs.vue'),
    meta: { title: 'logs.title', isWide: true, nav: { icon: Terminal, order: 100 } },
  },
]

export default routes
