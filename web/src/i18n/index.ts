// The language: what was chosen, else what the browser asks for. Messages are compiled at build time.
import { createI18n } from 'vue-i18n'
import type { LocaleMessages, VueMessageType } from 'vue-i18n'

export const LOCALES = ['en', 'zh-CN'] as const
export type Locale = (typeof LOCALES)[number]

const STORED = 'locale'
const loaders: Record<Locale, () => Promise<{ default: LocaleMessages<VueMessageType>[string] }>> = {
  en: () => import('./en'),
  'zh-CN': () => import('./zh-CN'),
}

export const i18n = createI18n({ legacy: false, locale: 'en', fallbackLocale: 'en', missingWarn: false })

export async function createConsoleI18n() {
  await setLocale(initialLocale())
  return i18n
}

export async function setLocale(locale: Locale): Promise<void> {
  const { default: messages } = await loaders[locale]()
  i18n.global.setLocaleMessage(locale, messages)
  i18n.global.locale.value = locale
  document.documentElement.lang = locale
}

export function chooseLocale(locale: Locale): Promise<void> {
  localStorage.setItem(STORED, locale)
  return setLocale(locale)
}

function initialLocale(): Locale {
  const stored = LOCALES.find((locale) => locale === localStorage.getItem(STORED))
  return stored ?? (navigator.language.startsWith('zh') ? 'zh-CN' : 'en')
}
