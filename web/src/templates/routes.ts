import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  { path: '/templates', component: () => import('./List.vue'), meta: { title: 'templates.title' } },
  {
    path: '/templates/:id',
    component: () => import('./Form.vue'),
    props: true,
    meta: { title: 'templates.one' },
  },
]

export default routes
