// How the console is built: into files named by their content, compressed once here and never again.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { baseCompile } from '@intlify/message-compiler'
import tailwindcss from '@tailwindcss/vite'
import vue from '@vitejs/plugin-vue'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

const COMPRESSIBLE = /\.(js|css|html|svg|json)$/
const COMPRESSED_BYTES_MIN = 1024 // Below this the header costs what the compression saves.

/** Messages become syntax trees here, so that the browser needs no message compiler. */
function compiledMessages(): Plugin {
  const compile = (node: unknown): unknown =>
    typeof node === 'string'
      ? baseCompile(node, { jit: true, location: false }).ast
      : Object.fromEntries(Object.entries(node as object).map(([key, value]) => [key, compile(value)]))
  return {
    name: 'compiled-messages',
    enforce: 'pre',
    load(id) {
      if (!/\/locales\/[\w-]+\.json$/.test(id)) return null
      const messages: unknown = JSON.parse(readFileSync(id, 'utf8'))
      this.addWatchFile(id)
      return { code: `export default ${JSON.stringify(compile(messages))}`, moduleType: 'js' }
    },
  }
}

/** Writes FILE.br and FILE.gz beside each file that gains from it. */
function precompressed(): Plugin {
  return {
    name: 'precompressed',
    apply: 'build',
    writeBundle({ dir = 'dist' }) {
      for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !COMPRESSIBLE.test(entry.name)) continue
        const file = join(entry.parentPath, entry.name)
        const bytes = readFileSync(file)
        if (bytes.length < COMPRESSED_BYTES_MIN) continue
        writeFileSync(`${file}.gz`, gzipSync(bytes, { level: 9 }))
        const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY }
        writeFileSync(`${file}.br`, brotliCompressSync(bytes, { params }))
      }
    },
  }
}

export default defineConfig({
  plugins: [compiledMessages(), vue(), tailwindcss(), precompressed()],
  resolve: {
    alias: {
      '@': fileURLToPath(new URL('./src', import.meta.url)),
      'vue-i18n': 'vue-i18n/dist/vue-i18n.runtime.esm-bundler.js',
    },
  },
  define: {
    __VUE_I18N_FULL_INSTALL__: false,
    __VUE_I18N_LEGACY_API__: false,
    __INTLIFY_DROP_MESSAGE_COMPILER__: true,
    __INTLIFY_PROD_DEVTOOLS__: false,
  },
  build: { target: 'es2022', assetsInlineLimit: 0 }, // Inlined assets would be data: URLs, which the CSP refuses.
  server: { proxy: { '/api': { target: process.env.MPG_DEV_GATEWAY ?? 'http://127.0.0.1:8080' } } },
  test: { environment: 'happy-dom', include: ['src/**/*.test.ts'] },
})
