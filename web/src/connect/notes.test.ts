import { expect, it } from 'vitest'
import { i18n, setLocale } from '@/i18n'

it.each(['en', 'zh-CN'] as const)('has words for a client by its transport in %s', async (locale) => {
  await setLocale(locale)
  const words = 'connect.note.claude-code.streamable-http'
  expect(i18n.global.te(words)).toBe(true)
  expect(i18n.global.t(words)).toContain('MPG_KEY')
})
