// The rules that the gateway has for names and passwords, so that they can be shown while typing.
const BYTES_MIN = 8
const BYTES_MAX = 71 // What bcrypt looks at, less its end mark.

export interface Rule {
  key: 'long' | 'short'
  isMet: boolean
}

export function passwordRules(password: string): Rule[] {
  const bytes = new TextEncoder().encode(password).length
  return [
    { key: 'long', isMet: bytes >= BYTES_MIN },
    { key: 'short', isMet: bytes > 0 && bytes <= BYTES_MAX && !password.includes('\0') },
  ]
}
