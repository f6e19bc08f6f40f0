// What a chart over time shows: one moment a point, some lines or bars.
export interface Series {
  label: string
  kind: 'bar' | 'line'
  /** One for each moment; null where there is nothing to say. */
  values: (number | null)[]
  tone: 'accent' | 'soft' | 'muted' | 'danger'
}

export interface TimeData {
  /** RFC 3339. */
  at: string[]
  /** How far they lie apart, in seconds. */
  stepS: number
  series: Series[]
}
