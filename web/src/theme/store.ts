// Light, dark, or as the system says. public/theme.js sets it before the first paint.
import { usePreferredDark, useStorage } from '@vueuse/core'
import { defineStore } from 'pinia'
import { computed, watchEffect } from 'vue'

export const THEMES = ['system', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]

export const useTheme = defineStore('theme', () => {
  const theme = useStorage<Theme>('theme', 'system')
  const prefersDark = usePreferredDark()
  const isDark = computed(() => theme.value === 'dark' || (theme.value !== 'light' && prefersDark.value))
  watchEffect(() => document.documentElement.classList.toggle('dark', isDark.value))
  return { theme, isDark }
})
