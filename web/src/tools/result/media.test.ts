import { expect, test } from 'vitest'
import { blobOf, fileNameOf, linkOf, mediaOf } from './media'

test('pictures and sounds are shown out of the message', () => {
  expect(mediaOf('image', { data: 'aGk=', mimeType: 'image/PNG' })).toBe('data:image/png;base64,aGk=')
  expect(mediaOf('audio', { data: 'aG\nk=', mimeType: 'audio/wav' })).toBe('data:audio/wav;base64,aGk=')
})

test('what is no picture is no picture', () => {
  for (const piece of [
    { data: 'aGk=', mimeType: 'text/html' },
    { data: 'aGk=', mimeType: 'image/png;charset=x,<script>' },
    { data: 'aGk="onerror="x', mimeType: 'image/png' },
    { data: 7, mimeType: 'image/png' },
    { data: 'aGk=' },
    {},
  ]) {
    expect(mediaOf('image', piece), JSON.stringify(piece)).toBeUndefined()
  }
  expect(mediaOf('audio', { data: 'aGk=', mimeType: 'image/png' })).toBeUndefined()
})

test('a link leads to the web alone', () => {
  expect(linkOf('https://example.com/a?b')).toBe('https://example.com/a?b')
  for (const uri of [
    'javascript:alert(1)',
    'data:text/html,x',
    'file:///etc/passwd',
    'nonsense',
    7,
    undefined,
  ]) {
    expect(linkOf(uri), String(uri)).toBeUndefined()
  }
})

test('what is embedded can be saved, as bytes', async () => {
  const blob = blobOf('AAH/')
  expect(blob?.type).toBe('application/octet-stream')
  expect(blob?.size).toBe(3)
  expect(blobOf('no base64!')).toBeUndefined()
  expect(blobOf('a')).toBeUndefined()
})

test('a file is named by the end of its address', () => {
  expect(fileNameOf('file:///a/b/report.pdf?x#y')).toBe('report.pdf')
  expect(fileNameOf('https://example.com/a%20b/../c:d')).toBe('c_d')
  expect(fileNameOf('')).toBe('resource')
  expect(fileNameOf('///')).toBe('resource')
})
