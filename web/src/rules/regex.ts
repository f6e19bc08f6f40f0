// A pattern tried on a name while it is typed. The gateway's own engine is RE2's kind; what the browser's understands
// alike is tried here, the rest is left to the preview, which the gateway answers.

export type Tried =
  | { outcome: 'matches'; groups: string[]; gives: string | undefined }
  | { outcome: 'misses' }
  /** It can't be a pattern of the gateway's: it looks around or back. */
  | { outcome: 'refused' }
  /** The target refers to a group that the pattern doesn't have. */
  | { outcome: 'noGroup'; group: string }
  /** Not to be tried here: the browser doesn't know it, or might take for ever over it. */
  | { outcome: 'unknown' }

const REFUSED = /\(\?(?:=|!|<=|<!|>)|\\[1-9]|\\k</ // Looking around and back takes more than linear time.
const ONLY_THERE = /\(\?[a-zA-Z-]*[xUu][a-zA-Z-]*[:)]|\\[pP]|\[\[:|\\[zA]|&&|--|~~/

/** What becomes of `name` by a rule of this pattern and target. */
export function tryPattern(pattern: string, isRegex: boolean, target: string, name: string): Tried {
  const expression = isRegex ? compiled(pattern) : undefined
  if (expression === 'refused' || expression === 'unknown') return { outcome: expression }
  const match = expression?.exec(name)
  const found: (string | undefined)[] | undefined =
    match ?? (pattern === name && !expression ? [name] : undefined)
  if (!found) return { outcome: 'misses' }
  const named = match?.groups
  const missing = referencesOf(target).find((group) => !hasGroup(group, found.length, named))
  if (missing !== undefined) return { outcome: 'noGroup', group: missing }
  const gives = target && expanded(target, found, named)
  return { outcome: 'matches', groups: found.slice(1).map((group) => group ?? ''), gives: gives || undefined }
}

function compiled(pattern: string): RegExp | 'refused' | 'unknown' {
  if (REFUSED.test(pattern)) return 'refused'
  if (ONLY_THERE.test(pattern) || mayTakeForEver(pattern)) return 'unknown'
  // Flags for the whole pattern stand in front of it there, beside it here.
  const flags = /^\(\?([ims]+)\)/.exec(pattern)
  const rest = pattern.slice(flags?.[0].length ?? 0).replaceAll('(?P<', '(?<')
  try {
    return new RegExp(`^(?:${rest})$`, `u${[...new Set(flags?.[1] ?? '')].join('')}`)
  } catch {
    return 'unknown'
  }
}

/** Whether a group that is repeated repeats or chooses within: the browser tries each way, the gateway doesn't. */
function mayTakeForEver(pattern: string): boolean {
  const plain = pattern.replaceAll(/\\.|\[(?:\\.|[^\]\\])*\]/g, 'x').replaceAll(/\(\?[^:)]*[:>)]?/g, '(')
  let inner = plain
  for (;;) {
    if (/\([^()]*[*+{|][^()]*\)[*+{]/.test(inner)) return true
    // A group that holds neither is as good as one letter; one that does is passed on as a repetition.
    const next = inner.replace(/\(([^()]*)\)/, (_, body: string) => (/[*+{|]/.test(body) ? 'x*' : 'x'))
    if (next === inner) return false
    inner = next
  }
}

const REFERENCE = /\$(?:([1-9])|\{([^}]*)\})/g

const referencesOf = (target: string): string[] =>
  [...target.matchAll(REFERENCE)].map(([, digit, name]) => digit ?? name ?? '')

function hasGroup(group: string, count: number, named: Record<string, unknown> | undefined): boolean {
  return /^\d+$/.test(group) ? Number(group) >= 1 && Number(group) < count : Object.hasOwn(named ?? {}, group)
}

/** `$1` to `$9` and `${name}` stand for groups; one that took no part is empty; any other `$` is itself. */
function expanded(
  target: string,
  groups: ArrayLike<string | undefined>,
  named?: Record<string, string | undefined>,
): string {
  return target.replaceAll(REFERENCE, (_, digit: string | undefined, name: string | undefined) => {
    const group = digit ?? name ?? ''
    return (/^\d+$/.test(group) ? groups[Number(group)] : named?.[group]) ?? ''
  })
}
