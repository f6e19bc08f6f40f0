// Where the browser finds the console: in the gateway's binary; or, with CONSOLE_DIST=1, in web/dist before it, so
// that a change of the console needs no new binary. The gateway's own headers are laid over either.
import { createReadStream, existsSync, statSync } from 'node:fs'
import http from 'node:http'
import { once } from 'node:events'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const DIST = fileURLToPath(new URL('../dist', import.meta.url))
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.html': 'text/html', '.svg': 'image/svg+xml' }

/** Resolves to { origin, stop }: what to open instead of the gateway's own `origin`. */
export async function served(gateway) {
  if (!process.env.CONSOLE_DIST) return { origin: gateway, stop: async () => {} }
  const { headers } = await fetch(gateway)
  const policy = headers.get('content-security-policy')
  const server = http.createServer((request, response) => {
    const path = new URL(request.url, gateway).pathname
    if (/^\/(api|mcp|healthz|readyz)(\/|$)/.test(path)) return forward(gateway, request, response)
    const asked = join(DIST, normalize(path))
    const file = existsSync(asked) && statSync(asked).isFile() ? asked : join(DIST, 'index.html')
    response.writeHead(200, {
      'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
      'content-security-policy': policy,
    })
    createReadStream(file).pipe(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = async () => {
    server.closeAllConnections()
    server.close()
  }
  return { origin: `http://127.0.0.1:${server.address().port}`, stop }
}

function forward(gateway, request, response) {
  const headers = { ...request.headers, host: new URL(gateway).host }
  if (headers.origin) headers.origin = gateway
  const onward = http.request(
    new URL(request.url, gateway),
    { method: request.method, headers },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    },
  )
  onward.on('error', () => response.destroy())
  response.on('close', () => onward.destroy())
  request.pipe(onward)
}
