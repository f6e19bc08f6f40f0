import { ScrollText } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/audit',
    component: () => import('./List.vue'),
    meta: { title: 'audit.title', isWide: true, nav: { icon: ScrollText, order: 90 } },
  },
]

export default routes
