/**
 * Loaded before each test file by scripts/test.mjs: a property that does not fix its own seed draws the same examples each
 * time, so that a run says something of the change that it is run for. New examples are what `npm run fuzz` is for.
 */
import { registerHooks } from 'node:module'

const seeded = new URL('./fast-check-seeded.mjs', import.meta.url).href
// Not an import of fast-check here: most files have no property, and it takes longer to load than they do.
if (!process.env.CHAPERONE_FUZZ_SEED)
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'fast-check' && context.parentURL !== seeded ? { url: seeded, format: 'module', shortCircuit: true } : next(specifier, context),
  })
