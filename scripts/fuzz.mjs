/** npm run fuzz [-- RUNS [file ...]]: every property test with many more runs than `npm test` gives it, and a new seed (printed). */
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './bootstrap.mjs'

const [first, ...rest] = process.argv.slice(2)
const runs = Number(first ?? 20_000)
if (!Number.isSafeInteger(runs) || runs < 1) {
  console.error('usage: npm run fuzz -- [RUNS] [file ...]')
  process.exit(2)
}
const all = globSync('{src,test}/**/*.test.ts', { cwd: root }).sort()
const files = rest.length > 0 ? rest : all.filter((file) => readFileSync(join(root, file), 'utf8').includes('fast-check'))
const seed = process.env.CHAPERONE_FUZZ_SEED ?? String(Math.trunc(Math.random() * 2 ** 31))
console.log(`fuzzing ${files.length} files, ${runs} runs a property, CHAPERONE_FUZZ_SEED=${seed}`)
const setUp = pathToFileURL(join(root, 'scripts', 'fuzz-setup.mjs')).href
const run = spawnSync(process.execPath, [join(root, 'scripts', 'test.mjs'), `--import=${setUp}`, '--test-timeout=1800000', ...files], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, CHAPERONE_FUZZ_RUNS: String(runs), CHAPERONE_FUZZ_SEED: seed },
})
process.exitCode = run.status ?? 1
