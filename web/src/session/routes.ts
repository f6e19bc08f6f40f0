import type { RouteRecordRaw } from 'vue-router'

const routes: RouteRecordRaw[] = [
  {
    path: '/login',
    name: 'login',
    component: () => import('./Login.vue'),
    meta: { isPublic: true, title: 'session.login.title' },
  },
  {
    path: '/register',
    name: 'register',
    component: () => import('./Register.vue'),
    meta: { isPublic: true, title: 'session.register.title' },
  },
]

export default routes
