// What of a result may be shown as itself: pictures and sound out of the message, and addresses that a browser may open.

/** In characters of base64, some 15 MB: more makes the page slow, and can still be saved. */
const SHOWN_CHARS_MAX = 20_000_000
/** A text longer than this is cut until it is asked for. */
export const TEXT_CHARS_MAX = 100_000

// As <img> and <audio> none of these runs anything; a drawing in SVG can neither, there.
const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml)$/
const SOUNDS = /^audio\/[a-z0-9.+-]+$/
const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/

export type Piece = Record<string, unknown>

const isBase64 = (data: unknown): data is string =>
  typeof data === 'string' && data.length <= SHOWN_CHARS_MAX && BASE64.test(data)

/** The address of what a piece holds, for an element of that kind. Undefined: it isn't shown. */
export function mediaOf(kind: 'image' | 'audio', { data, mimeType }: Piece): string | undefined {
  const type = String(mimeType ?? '').toLowerCase()
  const isShown = (kind === 'image' ? PICTURES : SOUNDS).test(type)
  return isShown && isBase64(data) ? `data:${type};base64,${data.replace(/\s/g, '')}` : undefined
}

/** The bytes of an embedded resource, to be saved. */
export function blobOf(data: unknown): Blob | undefined {
  if (!isBase64(data)) return undefined
  try {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0))
    // Never as what the server says it is: saved, it is opened by nothing of ours.
    return new Blob([bytes], { type: 'application/octet-stream' })
  } catch {
    return undefined
  }
}

/** What may stand in a link: an address on the web, and nothing that a browser would run. */
export function linkOf(uri: unknown): string | undefined {
  if (typeof uri !== 'string') return undefined
  try {
    const { protocol, href } = new URL(uri)
    return protocol === 'https:' || protocol === 'http:' ? href : undefined
  } catch {
    return undefined
  }
}

/** The last part of a URI as the name of a file. */
export function fileNameOf(uri: unknown): string {
  const last =
    String(uri ?? '')
      .split(/[?#]/)[0]
      ?.split('/')
      .filter(Boolean)
      .at(-1) ?? ''
  return last.replace(/[^\w.-]/g, '_').slice(0, 100) || 'resource'
}
