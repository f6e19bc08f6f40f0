import { expect, test } from 'vitest'
import { FILE_BYTES_MAX, bodyOf, fileName, open, passphraseError, read } from './document'
import type { Backup } from './document'

// A number and a space that no writer of ours would make.
const TEXT = `{"format": "mpg-backup/v1",  "createdAt": "2026-11-22T08:00:00Z", "gateway": "1.0.0", "n": 1.0}`

test('a file says what it is', () => {
  expect(read('a.json', TEXT)).toMatchObject({ gateway: '1.0.0', hasSecrets: false })
  expect(read('a.json', `\uFEFF${TEXT}`)).toMatchObject({ text: TEXT })
  expect(read('a.json', TEXT.replace('"n"', '"secrets"'))).toMatchObject({ hasSecrets: true })
})

test('what is no backup is told apart', () => {
  expect(read('a.json', '{"format": ')).toBe('notJson')
  for (const text of ['null', '[]', '"mpg-backup/v1"', '{}', '{"format": "mpg-backup/v9"}']) {
    expect(read('a.json', text), text).toBe('notBackup')
  }
})

test('a file that is too large is not read, and one that cannot be read is said', async () => {
  const text = () => Promise.reject(new Error('it was read'))
  expect(await open({ name: 'a.json', size: FILE_BYTES_MAX + 1, text })).toBe('tooLarge')
  expect(await open({ name: 'a.json', size: FILE_BYTES_MAX, text })).toBe('unread')
  const read = () => Promise.resolve(TEXT)
  expect(await open({ name: 'a.json', size: TEXT.length, text: read })).toMatchObject({ name: 'a.json' })
})

test('the document is sent as it was read', () => {
  const backup = read('a.json', TEXT) as Backup
  const body = bodyOf({ backup, mode: 'merge', passphrase: '' })
  expect(body).toContain(TEXT)
  expect(JSON.parse(body)).toEqual({ mode: 'merge', backup: JSON.parse(TEXT) })
  expect(
    JSON.parse(bodyOf({ backup, mode: 'replace', passphrase: 'a "good" one', previewed: '0f' })),
  ).toMatchObject({ passphrase: 'a "good" one', previewed: '0f' })
})

test('a passphrase has twelve characters, and is typed twice', () => {
  expect(passphraseError('', '')).toBeUndefined()
  expect(passphraseError('eleven char', 'eleven char')).toBe('short')
  expect(passphraseError('twelve chars', 'twelve char')).toBe('differs')
  expect(passphraseError('', 'twelve chars')).toBe('short')
  expect(passphraseError('x'.repeat(1_025), 'x'.repeat(1_025))).toBe('long')
  expect(passphraseError('十二个字的口令也是可以的', '十二个字的口令也是可以的')).toBeUndefined()
})

test('a file is named by its day', () => {
  expect(fileName(new Date('2026-11-22T23:30:00Z'))).toBe('mcp-proxy-gateway-2026-11-22.json')
})
