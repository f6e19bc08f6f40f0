import { ChartColumn } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/statistics',
    component: () => import('./Statistics.vue'),
    meta: { title: 'statistics.title', isWide: true, nav: { icon: ChartColumn, order: 80 } },
  },
]

export default routes
