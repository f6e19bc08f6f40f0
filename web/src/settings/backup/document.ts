// A backup as a file: what it says of itself before it is sent, and how it is sent without a byte changed.

/** What the gateway takes: it has this name for it, and this limit. */
const FORMAT = 'mpg-backup/v1'
export const BYTES_MAX = 10 * 1024 * 1024
export const PASSPHRASE_CHARS_MIN = 12

export type Mode = 'merge' | 'replace'

export interface Backup {
  /** Of the file. */
  name: string
  /** As it was read: the gateway checks its digest. */
  text: string
  createdAt: string
  gateway: string
  hasSecrets: boolean
}

export type Unreadable = 'tooLarge' | 'notJson' | 'notBackup'

/** What a file is, or why it is no backup. */
export function read(name: string, text: string): Backup | Unreadable {
  if (text.length > BYTES_MAX) return 'tooLarge'
  let document: unknown
  // Editors of some systems put a mark in front that is no JSON.
  const content = text.replace(/^\uFEFF/, '')
  try {
    document = JSON.parse(content)
  } catch {
    return 'notJson'
  }
  if (typeof document !== 'object' || document === null || !('format' in document)) return 'notBackup'
  const { format, createdAt, gateway, secrets } = document as Record<string, unknown>
  if (format !== FORMAT) return 'notBackup'
  return {
    name,
    text: content,
    createdAt: String(createdAt ?? ''),
    gateway: String(gateway ?? ''),
    hasSecrets: secrets !== null && secrets !== undefined,
  }
}

/** The body of a preview or a restore, with the document in it as it was read. */
export function bodyOf({ text }: Backup, mode: Mode, passphrase: string): string {
  const rest = JSON.stringify({ mode, ...(passphrase && { passphrase }) })
  return `${rest.slice(0, -1)},"backup":${text}}`
}

/** The name of the file for a backup that is made now. */
export const fileName = (now: Date) => `mcp-proxy-gateway-${now.toISOString().slice(0, 10)}.json`

/** What is wrong with a passphrase that is typed twice. */
export function passphraseError(passphrase: string, again: string): 'short' | 'differs' | undefined {
  if (!passphrase && !again) return undefined
  if ([...passphrase].length < PASSPHRASE_CHARS_MIN) return 'short'
  return passphrase === again ? undefined : 'differs'
}
