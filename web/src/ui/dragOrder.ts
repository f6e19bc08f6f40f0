// Rows put in order: dragged by a handle with a mouse or finger, or moved by keys. Shown at once, told when let go.
import { computed, nextTick, ref } from 'vue'
import type { Ref } from 'vue'

/** `commit` is told the whole new order and the one before, and answers when it is stored or refused. */
export function useDragOrder(
  ids: Ref<string[]>,
  commit: (ids: string[], before: string[]) => Promise<unknown>,
) {
  const moved = ref<string[]>()
  const dragged = ref<string>()
  const order = computed(() => moved.value ?? ids.value)

  function put(id: string, place: number) {
    const rest = order.value.filter((one) => one !== id)
    const at = Math.max(0, Math.min(rest.length, place))
    moved.value = [...rest.slice(0, at), id, ...rest.slice(at)]
  }

  /** Until the answer the new order stands; after it, what is stored, whichever that is. */
  async function settle(before: string[]) {
    dragged.value = undefined
    const next = moved.value
    if (next && next.join() !== before.join()) await commit(next, before).catch(() => {}) // Shown by whoever asked.
    // Somebody quick has moved another meanwhile: that one's answer is still to come.
    if (moved.value === next) moved.value = undefined
  }

  function step(id: string, by: number) {
    const before = order.value
    put(id, before.indexOf(id) + by)
    return settle(before)
  }

  /** From the handle's `pointerdown` on; rows are found by `data-order` in the list that holds it. */
  function start(event: PointerEvent, id: string) {
    const handle = event.currentTarget as HTMLElement
    const list = handle.closest('[data-order-list]')
    if (event.button !== 0 || !list) return
    dragged.value = id
    const before = order.value
    const follow = ({ clientY }: PointerEvent) => {
      const rows = [...list.querySelectorAll<HTMLElement>('[data-order]')]
      const others = rows.filter((row) => row.dataset.order !== id)
      const above = others.filter((row) => {
        const { top, height } = row.getBoundingClientRect()
        return top + height / 2 < clientY
      })
      put(id, above.length)
    }
    const stop = (end: PointerEvent) => {
      window.removeEventListener('pointermove', follow)
      window.removeEventListener('pointerup', stop)
      window.removeEventListener('pointercancel', stop)
      if (end.type === 'pointercancel') moved.value = before
      void settle(before)
    }
    // At the window: a captured pointer would be let go as soon as its row takes another place in the page.
    window.addEventListener('pointermove', follow)
    window.addEventListener('pointerup', stop)
    window.addEventListener('pointercancel', stop)
  }

  return { order, dragged, start, step }
}

/** An element that takes another place in the page loses the focus: it is given back. */
export async function keepFocus({ currentTarget }: Event) {
  await nextTick()
  if (currentTarget instanceof HTMLElement) currentTarget.focus()
}
