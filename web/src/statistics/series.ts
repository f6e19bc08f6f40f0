// A time series of the gateway as charts show it.
import type { TimeData } from '@/charts/series'
import type { paths } from '@/api/schema'

export type Timeseries =
  paths['/api/admin/stats/timeseries']['get']['responses'][200]['content']['application/json']
type Translate = (key: string) => string

export function callsOverTime({ points, stepS }: Timeseries, t: Translate): TimeData {
  return {
    at: points.map(({ at }) => at),
    stepS,
    series: [
      {
        label: t('statistics.succeeded'),
        kind: 'bar',
        tone: 'accent',
        values: points.map(({ calls, errors }) => calls - errors),
      },
      {
        label: t('statistics.failed'),
        kind: 'bar',
        tone: 'danger',
        values: points.map(({ errors }) => errors),
      },
    ],
  }
}

export function latencyOverTime({ points, stepS }: Timeseries, t: Translate): TimeData {
  const line = (percentile: 'p50Ms' | 'p95Ms' | 'p99Ms', tone: 'accent' | 'soft' | 'muted') => ({
    label: t(`statistics.${percentile}`),
    kind: 'line' as const,
    tone,
    values: points.map((point) => point[percentile] ?? null),
  })
  return {
    at: points.map(({ at }) => at),
    stepS,
    series: [line('p50Ms', 'accent'), line('p95Ms', 'soft'), line('p99Ms', 'muted')],
  }
}
