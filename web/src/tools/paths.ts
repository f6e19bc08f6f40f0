// Where the pages of each noun are.
import type { Noun } from './queries'

export const listPath = (noun: Noun) => (noun === 'tools' ? '/tools' : `/tools/${noun}`)
export const itemPath = (noun: Noun, id: string) => `${listPath(noun)}/${id}`

export const nounOf = (kind: string): Noun =>
  kind === 'prompt' ? 'prompts' : kind === 'tool' ? 'tools' : 'resources'
