import { merge } from './merge'

export default merge(import.meta.glob('../*/locales/zh-CN.json', { eager: true, import: 'default' }))
