// A backup as a file: what it says of itself before it is sent, and how it is sent without a byte changed.

const FORMAT = 'mpg-backup/v1'
/** What the gateway takes in all, and what of it the rest of the request may need. */
const REQUEST_BYTES_MAX = 10 * 1024 * 1024
const REST_BYTES_MAX = 8 * 1024
export const FILE_BYTES_MAX = REQUEST_BYTES_MAX - REST_BYTES_MAX
const PASSPHRASE_CHARS_MIN = 12
const PASSPHRASE_CHARS_MAX = 1_024

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

export type Unreadable = 'tooLarge' | 'unread' | 'notJson' | 'notBackup'

/** What a file is, or why it is no backup. One that is too large isn't read. */
export async function open(file: Pick<File, 'name' | 'size' | 'text'>): Promise<Backup | Unreadable> {
  if (file.size > FILE_BYTES_MAX) return 'tooLarge'
  const text = await file.text().catch(() => undefined)
  return text === undefined ? 'unread' : read(file.name, text)
}

export function read(name: string, text: string): Backup | Unreadable {
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

export interface Restore {
  backup: Backup
  mode: Mode
  passphrase: string
  /** The digest of the preview that was agreed to. */
  previewed?: string
}

/** The body of a preview or a restore, with the document in it as it was read. */
export function bodyOf({ backup: { text }, mode, passphrase, previewed }: Restore): string {
  const rest = JSON.stringify({ mode, passphrase: passphrase || undefined, previewed })
  return `${rest.slice(0, -1)},"backup":${text}}`
}

/** The name of the file for a backup that is made now. */
export const fileName = (now: Date) => `mcp-proxy-gateway-${now.toISOString().slice(0, 10)}.json`

/** What is wrong with a passphrase that is typed twice. */
export function passphraseError(passphrase: string, again: string): 'short' | 'long' | 'differs' | undefined {
  if (!passphrase && !again) return undefined
  const { length } = [...passphrase]
  if (length < PASSPHRASE_CHARS_MIN) return 'short'
  if (length > PASSPHRASE_CHARS_MAX) return 'long'
  return passphrase === again ? undefined : 'differs'
}
