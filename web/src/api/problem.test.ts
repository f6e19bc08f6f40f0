import { describe, expect, it } from 'vitest'
import { Problem, asProblem } from './problem'

const response = (status: number, headers = {}) => new Response(null, { status, headers })

describe('Problem', () => {
  it('takes what the gateway says', async () => {
    const body = {
      code: 'VALIDATION',
      detail: '1 field is not valid',
      requestId: 'r',
      errors: [{ pointer: '/name', message: 'is required' }],
    }
    const problem = await Problem.of(response(422), body)
    expect(problem).toMatchObject({ code: 'VALIDATION', status: 422, requestId: 'r' })
    expect(problem.byField()).toEqual({ '/name': 'is required' })
  })

  it('knows when to come back', async () => {
    expect((await Problem.of(response(429, { 'Retry-After': '7' }), {})).retryAfterS).toBe(7)
  })

  it('makes do with an answer that is no problem body', async () => {
    expect(await Problem.of(response(502), '<html>')).toMatchObject({
      code: 'INTERNAL',
      status: 502,
      errors: [],
    })
    expect(asProblem(new TypeError('x')).code).toBe('INTERNAL')
  })
})
