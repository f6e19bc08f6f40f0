// An upstream whose tools a test makes up and changes: hostile names, ten thousand of them, any schema. It speaks
// Streamable HTTP in the legacy era and answers a call with what it was given.
import { once } from 'node:events'
import http from 'node:http'

const REVISION = '2025-06-18'
const PAGE = 1_000

/** Resolves to { url, tools, stop }; `tools` is what it lists, to be changed in place. */
export async function startUpstream(tools) {
  const listed = [...tools]
  const answers = {
    initialize: () => ({
      protocolVersion: REVISION,
      capabilities: { tools: {} },
      serverInfo: { name: 'made up', version: '1' },
    }),
    ping: () => ({}),
    'tools/list': ({ cursor = '0' }) => {
      const end = Number(cursor) + PAGE
      return {
        tools: listed.slice(end - PAGE, end),
        nextCursor: end < listed.length ? String(end) : undefined,
      }
    },
    'tools/call': ({ name, arguments: given = {} }) =>
      listed.find((tool) => tool.name === name)?.answer ?? {
        content: [{ type: 'text', text: JSON.stringify(given) }],
        structuredContent: given,
      },
  }
  const server = http.createServer(async (request, response) => {
    if (request.method !== 'POST') return response.writeHead(405).end()
    let text = ''
    for await (const chunk of request) text += chunk
    const { id, method, params = {} } = JSON.parse(text)
    if (id === undefined) return response.writeHead(202).end()
    const answer = answers[method]
      ? { result: answers[method](params) }
      : { error: { code: -32601, message: `no ${method} here` } }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ jsonrpc: '2.0', id, ...answer }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = async () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: `http://127.0.0.1:${server.address().port}/mcp`, tools: listed, stop }
}

/** A tool that takes what `schema` says. */
export const tool = (name, description, schema = { type: 'object' }, more = {}) => ({
  name,
  description,
  inputSchema: schema,
  ...more,
})
