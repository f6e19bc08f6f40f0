import { Wrench } from '@lucide/vue'
import type { RouteRecordRaw } from 'vue-router'
import type { Noun } from './queries'

const list = () => import('./List.vue')
const detail = () => import('./Detail.vue')
const of = (noun: Noun) => () => ({ noun })
const oneOf =
  (noun: Noun) =>
  ({ params }: { params: Record<string, string | string[]> }) => ({
    noun,
    id: String(params.id),
  })

const routes: RouteRecordRaw[] = [
  {
    path: '/tools',
    component: list,
    props: of('tools'),
    meta: { title: 'tools.title', nav: { icon: Wrench, order: 30 } },
  },
  { path: '/tools/prompts', component: list, props: of('prompts'), meta: { title: 'tools.noun.prompts' } },
  {
    path: '/tools/resources',
    component: list,
    props: of('resources'),
    meta: { title: 'tools.noun.resources' },
  },
  {
    path: '/tools/prompts/:id',
    component: detail,
    props: oneOf('prompts'),
    meta: { title: 'tools.one.prompts' },
  },
  {
    path: '/tools/resources/:id',
    component: detail,
    props: oneOf('resources'),
    meta: { title: 'tools.one.resources' },
  },
  { path: '/tools/:id', component: detail, props: oneOf('tools'), meta: { title: 'tools.one.tools' } },
]

export default routes
