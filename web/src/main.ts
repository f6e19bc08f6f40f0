// The console's start: plugins, then the page.
import { VueQueryPlugin } from '@tanstack/vue-query'
import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from './App.vue'
import { queryClient } from './api/query'
import { createConsoleI18n } from './i18n'
import { createConsoleRouter } from './router'
import './styles.css'

const app = createApp(App)
app.use(createPinia())
app.use(await createConsoleI18n())
app.use(VueQueryPlugin, { queryClient })
app.use(createConsoleRouter())
app.mount('#app')
