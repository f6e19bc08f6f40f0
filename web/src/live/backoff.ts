// How long to wait before the next attempt: twice as long each time, and not all consoles at the same moment.
const FIRST_MS = 1_000
const MAX_MS = 30_000 // Whoever looks at the page must not wait longer once the gateway is back.

/** `chance`, 0 to 1, spreads it over the upper half. */
export function backoffMs(failures: number, chance: number): number {
  const whole = Math.min(MAX_MS, FIRST_MS * 2 ** Math.max(0, failures - 1))
  return whole / 2 + (whole / 2) * chance
}
