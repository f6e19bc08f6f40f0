// Whether a text meets a pattern that an upstream wrote. A browser can't stop a regular expression once it runs, so
// those that may run for ever aren't tried: what they say is left to the upstream.

/** Longer patterns aren't tried. */
const PATTERN_CHARS_MAX = 200
/** Longer texts aren't either: with as many repetitions as below, the steps are this to the power of that. */
const TEXT_CHARS_MAX = 300
const REPETITIONS_MAX = 3

/** True also where it isn't known. */
export function meets(text: string, pattern: string): boolean {
  if (text.length > TEXT_CHARS_MAX || !isTame(pattern)) return true
  try {
    return new RegExp(pattern, 'u').test(text)
  } catch {
    return true // JSON Schema wants the dialect of ECMAScript; others are in use.
  }
}

/** No repetition of a group that repeats or chooses, no reference back, and few repetitions without an end. */
export function isTame(pattern: string): boolean {
  if (pattern.length > PATTERN_CHARS_MAX || /\\[1-9k]/.test(pattern)) return false
  const bare = pattern.replace(/\\./gsu, 'e').replace(/\[[^\]]*\]/gu, 'c')
  let repetitions = 0
  const groups: boolean[] = [] // Whether there is a repetition or a choice in each that is open.
  for (let at = 0; at < bare.length; at += 1) {
    const isRepeated = /^(?:[*+]|\{\d+,?\d*\})/.test(bare.slice(at + 1))
    if (/^(?:[*+]|\{\d+,\})/.test(bare.slice(at + 1))) repetitions += 1
    const char = bare[at]
    if (char === '(') groups.push(false)
    else if (char === ')') {
      const isWild = groups.pop() ?? false
      if (isWild && isRepeated) return false
      if (groups.length > 0) groups[groups.length - 1] ||= isWild || isRepeated
    } else if (groups.length > 0 && (isRepeated || char === '|')) groups[groups.length - 1] = true
  }
  return repetitions <= REPETITIONS_MAX
}
