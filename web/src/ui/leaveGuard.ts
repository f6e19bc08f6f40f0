// Asks before a page with unsaved changes is left, within the console and out of it.
import { useEventListener } from '@vueuse/core'
import { useI18n } from 'vue-i18n'
import { onBeforeRouteLeave } from 'vue-router'

export function useLeaveGuard(isDirty: () => boolean) {
  const { t } = useI18n()
  onBeforeRouteLeave(() => !isDirty() || window.confirm(t('ui.leave')))
  useEventListener(window, 'beforeunload', (event) => {
    if (isDirty()) event.preventDefault()
  })
}
