// Puts the nouns' message files together: src/<noun>/locales/<locale>.json, each with its noun as the only key.
import type { LocaleMessages, VueMessageType } from 'vue-i18n'

export function merge(files: Record<string, unknown>): LocaleMessages<VueMessageType>[string] {
  return Object.assign({}, ...Object.values(files)) as LocaleMessages<VueMessageType>[string]
}
