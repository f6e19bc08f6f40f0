// Why a part of a schema has no controls of its own and is written as JSON instead. Each has a sentence in the locales.

export type Reason =
  /** It says nothing of what is in it. */
  | 'anything'
  /** No value meets it. */
  | 'nothing'
  /** It is no schema. */
  | 'notSchema'
  /** It refers to another document. */
  | 'foreignRef'
  /** It refers to what isn't there. */
  | 'lostRef'
  /** It refers to what is known only while it is applied. */
  | 'dynamicRef'
  /** Its references lead in a circle. */
  | 'circle'
  /** It is nested too deep, as what contains itself always is. */
  | 'tooDeep'
  /** It has too many parts. */
  | 'tooMany'
  /** What a member may be depends on its name by several patterns. */
  | 'patterns'

export class CannotShow extends Error {
  constructor(readonly reason: Reason) {
    super(reason)
  }
}
