// Server-sent events out of chunks of text, which end anywhere.
export interface StreamEvent {
  kind: string
  data: unknown
}

const PENDING_CHARS_MAX = 4 * 1024 * 1024 // An event that never ends must not fill the memory.

/** Give it each chunk; it answers the events that are whole by then. What isn't JSON is passed over. */
export function createEventParser(): (chunk: string) => StreamEvent[] {
  let pending = ''
  return (chunk) => {
    pending = (pending + chunk).replaceAll('\r\n', '\n')
    const blocks = pending.split('\n\n')
    pending = blocks.pop() ?? ''
    if (pending.length > PENDING_CHARS_MAX) pending = ''
    return blocks.flatMap(event)
  }
}

function event(block: string): StreamEvent[] {
  const lines = block.split('\n')
  const field = (name: string) =>
    lines
      .filter((line) => line.startsWith(`${name}:`))
      .map((line) => line.slice(name.length + 1).replace(/^ /, ''))
  const kind = field('event')[0]
  if (!kind) return []
  try {
    return [{ kind, data: JSON.parse(field('data').join('\n')) }]
  } catch {
    return []
  }
}
