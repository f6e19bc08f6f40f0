import { describe, expect, it } from 'vitest'
import { passwordRules } from './password'

const isGood = (password: string) => passwordRules(password).every(({ isMet }) => isMet)

describe('passwordRules', () => {
  it('counts bytes, not characters', () => {
    expect(isGood('1234567')).toBe(false)
    expect(isGood('12345678')).toBe(true)
    expect(isGood('密码密')).toBe(true)
    expect(isGood('密'.repeat(23))).toBe(true)
    expect(isGood('密'.repeat(24))).toBe(false)
    expect(isGood('x'.repeat(71))).toBe(true)
    expect(isGood('x'.repeat(72))).toBe(false)
  })

  it('refuses NUL', () => {
    expect(isGood('1234\x005678')).toBe(false)
  })
})
