import { Filter } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/rules',
    component: () => import('./List.vue'),
    meta: { title: 'rules.title', nav: { icon: Filter, order: 40 } },
  },
  {
    path: '/rules/new',
    component: () => import('./Form.vue'),
    meta: { title: 'rules.new' },
  },
  {
    path: '/rules/:kind(alias|filter)/:id',
    component: () => import('./Form.vue'),
    props: true,
    meta: { title: 'rules.edit' },
  },
]

export default routes
