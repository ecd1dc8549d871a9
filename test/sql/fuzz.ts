/** npm run fuzz:sql -- --seconds N [--seed S] [--json]: statements without end through a gateway that lets only reads pass; CHAPERONE_POSTGRES=15, 16, 17: on an older server. */
import { parseArgs } from 'node:util'
import { CORPUS } from './corpus.ts'
import { fuzz } from './fuzzing.ts'

const { values } = parseArgs({ options: { seconds: { type: 'string' }, seed: { type: 'string' }, json: { type: 'boolean', default: false } } })
const seconds = Number(values.seconds ?? 60)
const seed = Number(values.seed ?? Math.trunc(Math.random() * 2 ** 31))
if (!(seconds > 0) || !Number.isSafeInteger(seed)) {
  console.error('usage: npm run fuzz:sql -- [--seconds N] [--seed S] [--json]')
  process.exit(2)
}
if (Number(process.env.CHAPERONE_POSTGRES ?? 18) < 15) {
  console.error('fuzz:sql asks the server what it wrote (pg_walinspect): that needs PostgreSQL 15 at least')
  process.exit(2)
}
console.error(`fuzz:sql for ${seconds} s, --seed ${seed}`)
const tally = await fuzz({ seconds, seed, corpus: CORPUS, progress: (text) => console.error(text) })
if (values.json) console.log(JSON.stringify({ ...tally, seed, seconds }, null, 2))
else {
  console.log(`${tally.statements} statements, ${tally.passed_as_read} passed as reads, ${tally.violations.length} violations (--seed ${seed})`)
  for (const violation of tally.violations) console.log(JSON.stringify(violation, null, 2))
}
process.exitCode = tally.violations.length > 0 ? 1 : 0
