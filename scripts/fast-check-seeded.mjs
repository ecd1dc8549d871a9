/** fast-check, with a seed: see same-examples.mjs. */
import fc from 'fast-check'

fc.configureGlobal({ seed: 20_261_123 })

export * from 'fast-check'
export { default } from 'fast-check'
