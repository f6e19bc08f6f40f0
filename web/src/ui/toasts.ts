// Short notes on what was done; they go by themselves. A small act may be taken back from its note.
import { reactive } from 'vue'

const SHOWN_MS = 5_000
const UNDO_SHOWN_MS = 10_000 // Time enough to reach the button with the keyboard.
let next = 0

export const toasts = reactive<{ id: number; text: string; undo?: () => void }[]>([])

export function dismiss(id: number) {
  const index = toasts.findIndex((one) => one.id === id)
  if (index >= 0) toasts.splice(index, 1)
}

/** Answers the note's number, for whoever must dismiss it before its time. */
export function toast(text: string, undo?: () => void) {
  const id = next++
  toasts.push({ id, text, undo })
  setTimeout(() => dismiss(id), undo ? UNDO_SHOWN_MS : SHOWN_MS)
  return id
}
