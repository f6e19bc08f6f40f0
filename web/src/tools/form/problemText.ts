// What is wrong with an argument, in words.
import { useI18n } from 'vue-i18n'
import type { Problem } from './build'

export function useProblemText() {
  const { t } = useI18n()
  return (problem: Problem | undefined) => {
    if (!problem) return undefined
    const limit = 'limit' in problem ? problem.limit : ''
    return t(`tools.problem.${problem.code}`, { limit }, limit === 1 ? 1 : 2)
  }
}
