import { beforeAll, describe, expect, it } from 'vitest'
import { i18n, setLocale } from '.'

const { t } = i18n.global

describe('what is counted', () => {
  beforeAll(() => setLocale('en'))

  it.each([
    [1, 'Delete 1 upstream?', 'At least 1 item.', '1 call in 60 s', '1 upstream'],
    [2, 'Delete 2 upstreams?', 'At least 2 items.', '2 calls in 60 s', 'All 2 upstreams'],
  ])('%i is one or many', (count, deleted, items, rate, all) => {
    expect(t('upstreams.bulk.deleteTitle', count)).toBe(deleted)
    expect(t('tools.problem.fewItems', { limit: count }, count)).toBe(items)
    expect(t('keys.rateOf', { limit: count, seconds: 60 }, count)).toBe(rate)
    expect(t('overview.allUpstreams', { total: count }, count)).toBe(all)
  })

  it('keeps the number as it was written out', () => {
    const text = t('statistics.csvCut', { count: '10,000' }, 10_000)
    expect(text).toBe('The file holds the newest 10,000 calls')
  })
})
