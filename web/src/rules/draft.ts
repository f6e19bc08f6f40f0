// What the form for a rule holds, and how it becomes the bodies of the REST API.
import type { AliasRule, FilterRule, NewAliasRule, NewFilterRule, PreviewAsk } from '@/api/types'
import type { Owner } from './owner'

export const KINDS = ['alias', 'filter'] as const
export type RuleKind = (typeof KINDS)[number]
export const ITEM_KINDS = ['tool', 'prompt', 'resource'] as const
export type ItemKind = (typeof ITEM_KINDS)[number]
export type Rule = AliasRule | FilterRule

export interface Draft {
  pattern: string
  isRegex: boolean
  matchOn: 'upstream' | 'exposed'
  targetName: string
  targetDescription: string
  action: 'deny' | 'allow'
  enabled: boolean
  kinds: ItemKind[]
}

export const emptyDraft = (pattern = ''): Draft => ({
  pattern,
  isRegex: false,
  matchOn: 'upstream',
  targetName: '',
  targetDescription: '',
  action: 'deny',
  enabled: true,
  kinds: [...ITEM_KINDS],
})

export function draftOf(rule: Rule): Draft {
  const { pattern, isRegex, matchOn, enabled, kinds } = rule
  const shared = { pattern, isRegex, matchOn, enabled, kinds: [...kinds] }
  return 'action' in rule
    ? { ...emptyDraft(), ...shared, action: rule.action }
    : {
        ...emptyDraft(),
        ...shared,
        targetName: rule.targetName ?? '',
        targetDescription: rule.targetDescription ?? '',
      }
}

const sharedOf = ({ pattern, isRegex, matchOn, enabled, kinds }: Draft, owner: Owner) => ({
  pattern,
  isRegex,
  // Only a key's rules see exposed names: theirs are applied to what has one.
  matchOn: owner.type === 'key' ? matchOn : ('upstream' as const),
  enabled,
  kinds,
})

export const aliasOf = (draft: Draft, owner: Owner): Omit<NewAliasRule, 'owner'> => ({
  ...sharedOf(draft, owner),
  targetName: draft.targetName || null,
  targetDescription: draft.targetDescription || null,
})

export const filterOf = (draft: Draft, owner: Owner): Omit<NewFilterRule, 'owner'> => ({
  ...sharedOf(draft, owner),
  action: draft.action,
})

/** What the gateway is asked to preview: the owner's rules, with the draft in its rule's place or behind the last. */
export function previewOf(
  kind: RuleKind,
  owner: Owner,
  rules: Rule[],
  draft: Draft,
  id?: string,
): PreviewAsk {
  const drafts = rules.map((rule) => (rule.id === id ? draft : draftOf(rule)))
  if (!rules.some((rule) => rule.id === id)) drafts.push(draft)
  return kind === 'alias'
    ? { owner, aliases: drafts.map((one) => aliasOf(one, owner)) }
    : { owner, filters: drafts.map((one) => filterOf(one, owner)) }
}
