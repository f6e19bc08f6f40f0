import { render } from '@testing-library/vue'
import { expect, it } from 'vitest'
import { Problem } from '@/api/problem'
import { i18n, setLocale } from '@/i18n'
import ProblemNote from './ProblemNote.vue'

// As for who never had it in English: those words are not loaded then.
it('says what is wrong in the language of its reader alone', async () => {
  await setLocale('zh-CN')
  const { container } = render(ProblemNote, {
    props: { error: Problem.offline() },
    global: { plugins: [i18n] },
  })
  expect(container.textContent).toContain('无法连接到网关')
})
