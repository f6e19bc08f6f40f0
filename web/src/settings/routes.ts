import { Settings } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/settings',
    component: () => import('./Page.vue'),
    meta: { title: 'settings.title', nav: { icon: Settings, order: 110 } },
  },
  {
    path: '/settings/backup',
    component: () => import('./backup/Page.vue'),
    meta: { title: 'settings.backup.title' },
  },
]

export default routes
