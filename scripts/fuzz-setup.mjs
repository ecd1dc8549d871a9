/** Loaded before each test file by scripts/fuzz.mjs: the number of runs and the seed of every property that does not fix its own. */
import fc from 'fast-check'

fc.configureGlobal({ numRuns: Number(process.env.CHAPERONE_FUZZ_RUNS), seed: Number(process.env.CHAPERONE_FUZZ_SEED), endOnFailure: false })
