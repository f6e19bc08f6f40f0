// The typed client of the REST API; its types are generated from admin/openapi.json (`npm run schema`).
import createClient from 'openapi-fetch'
import { useSession } from '@/session/store'
import { Problem } from './problem'
import type { paths } from './schema'

export const api = createClient<paths>({ baseUrl: '/' })

api.use({
  onRequest({ request }) {
    const { token } = useSession()
    if (token) request.headers.set('Authorization', `Bearer ${token}`)
    return request
  },
  onResponse({ request, response }) {
    // A login that is refused answers 401 as well: that ends no session.
    if (response.status === 401 && request.headers.has('Authorization')) useSession().expire()
  },
  onError: () => Problem.offline(),
})

interface Answer<Data> {
  data?: Data
  error?: unknown
  response: Response
}

/** The data of an answer; anything else is thrown as a `Problem`. */
export async function unwrap<Data>(answer: Promise<Answer<Data>>): Promise<Data> {
  const { data, error, response } = await answer
  if (!response.ok) throw await Problem.of(response, error)
  return data as Data
}

/** The same, with the ETag that the next change has to show. */
export async function unwrapTagged<Data>(
  answer: Promise<Answer<Data>>,
): Promise<{ data: Data; etag: string }> {
  const { response } = await answer
  return { data: await unwrap(answer), etag: response.headers.get('ETag') ?? '' }
}
