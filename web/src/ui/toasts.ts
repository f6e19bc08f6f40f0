// Short notes on what was done; they go by themselves.
import { reactive } from 'vue'

const SHOWN_MS = 5_000
let next = 0

export const toasts = reactive<{ id: number; text: string }[]>([])

export function toast(text: string) {
  const id = next++
  toasts.push({ id, text })
  setTimeout(() => {
    const index = toasts.findIndex((one) => one.id === id)
    if (index >= 0) toasts.splice(index, 1)
  }, SHOWN_MS)
}
