// The bodies of the REST API by the names that the pages use, taken from the generated paths.
import type { paths } from './schema'

type Json<T> = T extends { content: { 'application/json': infer Body } } ? Body : never
type Get<P extends keyof paths> = paths[P] extends { get: { responses: { 200: infer R } } } ? Json<R> : never
type PostBody<P extends keyof paths> = paths[P] extends { post: { requestBody: infer B } } ? Json<B> : never
type PostAnswer<P extends keyof paths, Status extends 200 | 201 = 200> = paths[P] extends {
  post: { responses: Record<Status, infer R> }
}
  ? Json<R>
  : never

export type Upstream = Get<'/api/admin/upstreams/{id}'>
export type NewUpstream = PostBody<'/api/admin/upstreams'>
export type UpstreamState = Upstream['state']
export type TestReport = PostAnswer<'/api/admin/upstreams/test'>
export type Tool = Get<'/api/admin/tools'>['items'][number]
export type ApiKey = Get<'/api/admin/keys/{id}'>
export type NewApiKey = PostBody<'/api/admin/keys'>
export type CreatedApiKey = PostAnswer<'/api/admin/keys', 201>
export type SignedIn = PostAnswer<'/api/auth/login'>
export type UpstreamPatch = paths['/api/admin/upstreams/{id}'] extends { patch: { requestBody: infer B } }
  ? Json<B>
  : never
export type ApiKeyPatch = paths['/api/admin/keys/{id}'] extends { patch: { requestBody: infer B } }
  ? Json<B>
  : never
export type Template = Get<'/api/admin/templates/{id}'>
export type TemplateCategory = Template['category']
export type ImportedItem = PostAnswer<'/api/admin/upstreams/import'>['items'][number]
export type BulkAction = PostBody<'/api/admin/upstreams/bulk'>['action']
export type BulkResult = PostAnswer<'/api/admin/upstreams/bulk'>['items'][number]
export type XiaozhiEndpoint = Get<'/api/admin/xiaozhi/{id}'>
export type NewXiaozhiEndpoint = PostBody<'/api/admin/xiaozhi'>
export type XiaozhiEndpointPatch = paths['/api/admin/xiaozhi/{id}'] extends {
  patch: { requestBody: infer B }
}
  ? Json<B>
  : never
/** The schema says of its arguments only that they are an object, which the generator takes for an empty one. */
export type PlaygroundCall = Omit<PostBody<'/api/admin/tools/call'>, 'arguments'> & {
  arguments: Record<string, unknown>
}
export type PlaygroundAnswer = PostAnswer<'/api/admin/tools/call'>
export type AliasRule = Get<'/api/admin/rules/aliases/{id}'>
export type FilterRule = Get<'/api/admin/rules/filters/{id}'>
export type NewAliasRule = PostBody<'/api/admin/rules/aliases'>
export type NewFilterRule = PostBody<'/api/admin/rules/filters'>
export type PreviewAsk = PostBody<'/api/admin/rules/preview'>
export type ExplainedItem = PostAnswer<'/api/admin/rules/preview'>['items'][number]
export type ExplainStep = ExplainedItem['steps'][number]
export type Item = Tool
export type ItemDetail = Get<'/api/admin/tools/{id}'>
