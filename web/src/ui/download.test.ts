import { describe, expect, it } from 'vitest'
import { csv } from './download'

describe('csv', () => {
  it('quotes what needs it', async () => {
    expect(await csv(['a', 'b'], [['x,y', 'say "hi"']]).text()).toBe('a,b\r\n"x,y","say ""hi"""\r\n')
  })

  it('hands no formula to a spreadsheet, and leaves numbers as they are', async () => {
    expect(await csv(['a', 'b', 'c'], [['=1+1', -5, null]]).text()).toBe("a,b,c\r\n'=1+1,-5,\r\n")
  })
})
