import { render } from '@testing-library/vue'
import { beforeAll, describe, expect, it } from 'vitest'
import { Problem } from '@/api/problem'
import { i18n, setLocale } from '@/i18n'
import ListStates from './ListStates.vue'

const offline = Problem.offline()
const props = {
  isLoading: false,
  error: null as unknown,
  count: 0,
  emptyTitle: 'No things yet',
  emptyLead: 'Add one.',
}

function show(changed: Partial<typeof props> & { isFiltered?: boolean }) {
  const { container } = render(ListStates, {
    props: { ...props, ...changed },
    slots: { default: 'the rows', empty: 'what to do' },
    global: { plugins: [i18n] },
  })
  return container.textContent ?? ''
}

describe('ListStates', () => {
  beforeAll(() => setLocale('en'))

  it('says that it loads, until there is something to show', () => {
    const text = show({ isLoading: true })
    expect(text).toContain('Loading')
    expect(text).not.toContain('the rows')
  })

  it('tells an empty list from one where nothing was found', () => {
    expect(show({})).toContain('No things yet')
  })

  it('offers no first step where a search found nothing', () => {
    const text = show({ isFiltered: true })
    expect(text).toContain('Nothing found')
    expect(text).not.toContain('what to do')
  })

  it('says why it failed, and offers another try', () => {
    const text = show({ error: offline })
    expect(text).toContain('The gateway cannot be reached')
    expect(text).toContain('Try again')
  })

  it('keeps the rows when a later answer fails', () => {
    const text = show({ error: offline, count: 3 })
    expect(text).toContain('the rows')
    expect(text).toContain('The gateway cannot be reached')
  })
})
