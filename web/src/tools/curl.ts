// A call as one command for a shell: what a client of 2026-07-28 sends, with the key out of the environment.
import { isObject } from './form/json'

const REVISION = '2026-07-28'
/** A header's value as it may stand there; all else is encoded, as the specification says. */
const PLAIN = /^[\x21-\x7E]([\x20-\x7E]*[\x21-\x7E])?$/

export interface Call {
  /** Of the gateway, without a slash at the end. */
  origin: string
  name: string
  schema: unknown
  arguments: Record<string, unknown>
}

/** In single quotes a shell takes everything as it is. */
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

function headerValue(text: string): string {
  if (PLAIN.test(text) && !text.toLowerCase().startsWith('=?base64?')) return text
  const bytes = new TextEncoder().encode(text)
  return `=?base64?${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))}?=`
}

/** The arguments that a schema wants in headers too, by `x-mcp-header`. */
function mirrored(schema: unknown, value: unknown): [string, string][] {
  if (!isObject(schema) || !isObject(value) || !isObject(schema.properties)) return []
  return Object.entries(schema.properties).flatMap(([name, property]): [string, string][] => {
    const given = value[name]
    if (!isObject(property) || given === undefined || given === null) return []
    const header = property['x-mcp-header']
    if (typeof header === 'string' && typeof given !== 'object') {
      return [[`Mcp-Param-${header}`, headerValue(String(given))]]
    }
    return mirrored(property, given)
  })
}

export function curlOf({ origin, name, schema, arguments: given }: Call): string {
  const headers = [
    ['Content-Type', 'application/json'],
    ['Accept', 'application/json, text/event-stream'],
    ['MCP-Protocol-Version', REVISION],
    ['Mcp-Method', 'tools/call'],
    ['Mcp-Name', headerValue(name)],
    ...mirrored(schema, given),
  ]
  const message = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: {
      name,
      arguments: given,
      _meta: {
        'io.modelcontextprotocol/protocolVersion': REVISION,
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  }
  return [
    // By name, whatever mode the key has.
    `curl -sS ${quoted(`${origin}/mcp/full/http`)}`,
    '-H "Authorization: Bearer $MPG_KEY"',
    ...headers.map(([header, value]) => `-H ${quoted(`${header}: ${value}`)}`),
    `-d ${quoted(JSON.stringify(message))}`,
  ].join(' \\\n  ')
}
