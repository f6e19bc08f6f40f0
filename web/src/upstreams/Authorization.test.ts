import { VueQueryPlugin } from '@tanstack/vue-query'
import { cleanup, fireEvent, render } from '@testing-library/vue'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createPinia } from 'pinia'
import { createMemoryHistory, createRouter } from 'vue-router'
import { defineComponent } from 'vue'
import { queryClient } from '@/api/query'
import { i18n, setLocale } from '@/i18n'
import { toasts } from '@/ui/toasts'
import Authorization from './Authorization.vue'
import { useReturned } from './returned'

const none = { issuer: null, scopes: [], expiresAt: null, missingScope: null }
const plugins = [i18n, createPinia(), [VueQueryPlugin, { queryClient }]] as never[]

/** The gateway: what was asked of it, and what it answers. The API's client takes hold of `fetch` when it is loaded. */
const gateway = vi.hoisted(() => {
  const gateway = { asked: [] as Request[], answer: {} }
  globalThis.fetch = (request) => {
    gateway.asked.push(request as Request)
    const headers = { 'content-type': 'application/json' }
    return Promise.resolve(new Response(JSON.stringify(gateway.answer), { headers }))
  }
  return gateway
})

const show = (authorization: object) =>
  render(Authorization, { props: { id: 'one', authorization: authorization as never }, global: { plugins } })

beforeEach(() => setLocale('en'))
afterEach(() => {
  cleanup()
  vi.unstubAllGlobals()
})

describe('Authorization', () => {
  it('asks for what is missing, and offers nothing to forget before there is something', () => {
    const { getByText, queryByText } = show({ ...none, state: 'required' })
    getByText('Not authorised')
    getByText('Authorise')
    expect(queryByText('Forget')).toBeNull()
  })

  it('says who granted what, until when, and what it lacks', () => {
    const { getByText } = show({
      state: 'insufficient-scope',
      issuer: 'https://issuer.example',
      scopes: ['read', 'list'],
      expiresAt: '2026-01-01T00:00:00Z',
      missingScope: 'write',
    })
    for (const text of ['https://issuer.example', 'read list', 'write', 'Authorise again', 'Forget'])
      getByText(text)
  })

  it('sends the browser to where the gateway says', async () => {
    const assign = vi.fn()
    gateway.answer = { authorizationUrl: 'https://issuer.example/authorize?state=s', expiresAt: '' }
    vi.stubGlobal('location', { ...window.location, assign })
    const { getByText, getByLabelText } = show({ ...none, state: 'required' })
    await fireEvent.update(getByLabelText('Client id'), 'by-hand')
    await fireEvent.click(getByText('Authorise'))
    await vi.waitFor(() => expect(assign).toHaveBeenCalledWith('https://issuer.example/authorize?state=s'))
    const request = gateway.asked.pop()
    expect(request?.url).toContain('/api/admin/upstreams/one/oauth/start')
    expect(await request?.json()).toEqual({ clientId: 'by-hand' })
  })

  it('goes nowhere but to a web page', async () => {
    const assign = vi.fn()
    gateway.answer = { authorizationUrl: 'javascript:alert(1)', expiresAt: '' }
    vi.stubGlobal('location', { ...window.location, assign })
    const { getByText, findByRole } = show({ ...none, state: 'required' })
    await fireEvent.click(getByText('Authorise'))
    await findByRole('alert')
    expect(gateway.asked).toHaveLength(1)
    expect(assign).not.toHaveBeenCalled()
  })
})

describe('useReturned', () => {
  const Page = defineComponent({
    setup() {
      useReturned()
      return () => null
    },
  })

  it.each([
    ['authorized', 1],
    ['<b>made up</b>', 0],
  ])('says %s once and takes it out of the address', async (word, said) => {
    toasts.splice(0)
    const router = createRouter({
      history: createMemoryHistory(),
      routes: [{ path: '/:rest(.*)*', component: Page }],
    })
    await router.push({ path: '/upstreams/one', query: { oauth: word, search: 'a' } })
    render(Page, { global: { plugins: [...plugins, router as never] } })
    await vi.waitFor(() => expect(router.currentRoute.value.query).toEqual({ search: 'a' }))
    expect(toasts.length).toBe(said)
  })
})
