import i18n from '@intlify/eslint-plugin-vue-i18n'
import vue from 'eslint-plugin-vue'
import accessibility from 'eslint-plugin-vuejs-accessibility'
import globals from 'globals'
import typescript from 'typescript-eslint'

const OTHER_LANGUAGE = {
  selector: "CallExpression[callee.name='te'][arguments.length>1]",
  message: 'Only the language of the reader is loaded: ask te(key) for it alone.',
}

export default typescript.config(
  { ignores: ['dist/', 'src/api/schema.ts'] },
  ...typescript.configs.recommended,
  ...vue.configs['flat/recommended'],
  ...accessibility.configs['flat/recommended'],
  ...i18n.configs.recommended,
  { settings: { 'vue-i18n': { localeDir: './src/**/locales/*.json', messageSyntaxVersion: '^11.0.0' } } },
  {
    files: ['**/*.{ts,vue}'],
    languageOptions: { parserOptions: { parser: typescript.parser }, globals: globals.browser },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@intlify/vue-i18n/no-raw-text': [
        'error',
        { ignorePattern: '^[^\\p{L}]+$', ignoreText: ['MCP Proxy Gateway', 'OK', 'ms'] },
      ],
      '@intlify/vue-i18n/no-missing-keys': 'error',
      // The words of another language than the reader's are not loaded.
      'no-restricted-syntax': ['error', OTHER_LANGUAGE],
      'vue/no-restricted-syntax': ['error', OTHER_LANGUAGE],
      // Ours are made of one word where the folder says the rest: upstreams/List.vue.
      'vue/multi-word-component-names': 'off',
      'vue/block-order': ['error', { order: ['script', 'template', 'style'] }],
      'vue/block-lang': ['error', { script: { lang: 'ts' } }],
      'vue/require-default-prop': 'off',
      'max-lines': ['error', { max: 250 }],
      'vuejs-accessibility/label-has-for': ['error', { required: { some: ['nesting', 'id'] } }],
      // Layout is prettier's.
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/multiline-html-element-content-newline': 'off',
      'vue/html-self-closing': 'off',
      'vue/html-indent': 'off',
      'vue/html-closing-bracket-newline': 'off',
    },
  },
  { files: ['e2e/**', '*.js'], languageOptions: { globals: globals.node } },
  { files: ['public/**'], languageOptions: { globals: globals.browser } },
)
