import { render } from '@testing-library/vue'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Upstream } from '@/api/types'
import { i18n, setLocale } from '@/i18n'
import Features from './Features.vue'

type Shown = Pick<Upstream, 'capabilityMatrix' | 'degraded'>

const matrix: NonNullable<Upstream['capabilityMatrix']> = {
  legacy: { tools: { level: 'full' }, elicitation: { level: 'full' } },
  modern: {
    tools: { level: 'bridged' },
    elicitation: { level: 'bridged' },
    resumption: { level: 'impossible', reason: 'e' },
  },
}

function show(upstream: Shown) {
  const { container } = render(Features, { props: { upstream }, global: { plugins: [i18n] } })
  const rows = [...container.querySelectorAll('tbody tr')].map((row) =>
    [...row.children].map((cell) => cell.textContent?.trim()),
  )
  const reasons = [...container.querySelectorAll('li')].map((item) =>
    item.textContent?.replace(/\s+/g, ' ').trim(),
  )
  return { text: container.textContent ?? '', rows, reasons }
}

describe('Features', () => {
  beforeAll(() => setLocale('en'))
  afterAll(() => setLocale('en'))

  it('shows nothing of an upstream that was never spoken with', () => {
    expect(show({ capabilityMatrix: null, degraded: {} }).text).toBe('')
  })

  it('says of each feature what clients of each era get, in a fixed order', () => {
    expect(show({ capabilityMatrix: matrix, degraded: {} }).rows).toEqual([
      ['Tools', 'Yes', 'Translated'],
      ['Questions to the user', 'Yes', 'Translated'],
      ['Going on after a lost connection', '–', 'Not always (e)'],
    ])
  })

  it('explains each letter once, and says how often it struck', () => {
    const { reasons } = show({ capabilityMatrix: matrix, degraded: { a: 3 } })
    expect(reasons).toHaveLength(2)
    expect(reasons[0]).toMatch(/^\(a\) .+ So far: 3\.$/)
    expect(reasons[1]).toMatch(/^\(e\) .+\.$/)
    expect(reasons[1]).not.toContain('So far')
  })

  it('has words for every reason, in both languages', () => {
    for (const locale of ['en', 'zh-CN'] as const) {
      setLocale(locale)
      const degraded = Object.fromEntries([...'abcdefghij'].map((letter) => [letter, 1]))
      expect(show({ capabilityMatrix: matrix, degraded }).text).not.toContain('upstreams.')
    }
  })
})
