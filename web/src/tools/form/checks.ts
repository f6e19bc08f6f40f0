// Whether what is written in one control is what its field asks for.
import type { NumberField, TextField } from './model'
import { meets } from './patterns'

/** Each has a sentence in the locales, with its limit in it. */
export type Complaint =
  | {
      code:
        'missing' | 'notNumber' | 'notWhole' | 'tooPrecise' | 'notDate' | 'notMoment' | 'notJson' | 'notType'
    }
  | { code: 'min' | 'max' | 'above' | 'under' | 'multiple'; limit: number }
  | { code: 'short' | 'long' | 'fewItems' | 'manyItems' | 'fewMembers' | 'manyMembers'; limit: number }
  | { code: 'pattern' | 'namePattern'; limit: string }
  | { code: 'repeated' | 'nameMissing' | 'nameTwice' }

const DECIMAL = /^[+-]?(\d+(\.\d+)?|\.\d+)(e[+-]?\d+)?$/i
const DATE = /^\d{4}-\d{2}-\d{2}$/
const MOMENT = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/
/** How far a quotient may be off a whole number: decimal fractions aren't exact in binary. */
const QUOTIENT_ERROR_MAX = 1e-9

export function checkText(text: string, { format, limits }: TextField): Complaint | undefined {
  const length = [...text].length // JSON Schema counts code points.
  const { minLength, maxLength } = limits
  if (minLength !== undefined && length < minLength) return { code: 'short', limit: minLength }
  if (maxLength !== undefined && length > maxLength) return { code: 'long', limit: maxLength }
  if (format === 'date' && !isDate(text)) return { code: 'notDate' }
  if (format === 'date-time' && !isMoment(text)) return { code: 'notMoment' }
  const pattern = limits.patterns.find((one) => !meets(text, one))
  return pattern === undefined ? undefined : { code: 'pattern', limit: pattern }
}

/** The number that a text says, if it says one. */
export const numberOf = (text: string): number | undefined => {
  const number = Number(text)
  return DECIMAL.test(text.trim()) && Number.isFinite(number) ? number : undefined
}

export function checkNumber(number: number, { isWhole, limits }: NumberField): Complaint | undefined {
  if (isWhole && !Number.isInteger(number)) return { code: 'notWhole' }
  // Beyond this a whole number changes on its way through JSON.
  if (Number.isInteger(number) && !Number.isSafeInteger(number)) return { code: 'tooPrecise' }
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multiples } = limits
  if (minimum !== undefined && number < minimum) return { code: 'min', limit: minimum }
  if (maximum !== undefined && number > maximum) return { code: 'max', limit: maximum }
  if (exclusiveMinimum !== undefined && number <= exclusiveMinimum)
    return { code: 'above', limit: exclusiveMinimum }
  if (exclusiveMaximum !== undefined && number >= exclusiveMaximum)
    return { code: 'under', limit: exclusiveMaximum }
  const missed = multiples.find(
    (one) => Math.abs(number / one - Math.round(number / one)) > QUOTIENT_ERROR_MAX,
  )
  return missed === undefined ? undefined : { code: 'multiple', limit: missed }
}

export const isDate = (text: string) =>
  DATE.test(text) && !Number.isNaN(Date.parse(text)) && new Date(text).toISOString().startsWith(text)

/** RFC 3339. */
export const isMoment = (text: string) =>
  MOMENT.test(text) && isDate(text.slice(0, 10)) && !Number.isNaN(Date.parse(text.toUpperCase()))
