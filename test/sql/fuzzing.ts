import { READ_FUNCTIONS } from '../../src/gateways/postgres/sql/functions.ts'
import { Grammar } from './grammar.ts'
import { mutate } from './mutate.ts'
import { Oracle, type Tally } from './oracle.ts'
import { Random } from './random.ts'
import { readRoutines } from './routines.ts'
import { NEXT, type Script, type Step } from './session.ts'
import { Sound } from './sound.ts'
import type { User } from './world.ts'

export interface FuzzOptions {
  readonly seconds: number
  readonly seed: number
  /** Default: without end. */
  readonly statements?: number
  readonly corpus?: readonly string[]
  progress?(text: string): void
}

/** Different violations that are worth reading. After these it stops. */
const ENOUGH = 100
const STEPS = 60
/** With `shadowed` little passes: his operators are the owner’s. */
const WHO: readonly User[] = ['root', 'root', 'plain', 'plain', 'pinned', 'pinned', 'reader', 'shadowed']

/** Until the time is over, or there is enough to read. */
export async function fuzz({ seconds, seed, statements = Number.POSITIVE_INFINITY, corpus = [], progress }: FuzzOptions): Promise<Tally> {
  const oracle = await Oracle.start()
  try {
    const random = new Random(seed)
    const routines = await readRoutines(oracle.observer)
    const isRead = (name: string) => READ_FUNCTIONS.has(name)
    const makers = { grammar: new Grammar(random, routines, isRead), sound: new Sound(random, routines, isRead) }
    const { tally } = oracle
    const until = performance.now() + seconds * 1000
    let said = performance.now()
    while (performance.now() < until && tally.violations.length < ENOUGH && tally.statements < statements) {
      const before = tally.violations.length
      await oracle.run(scriptOf(random, makers, corpus))
      // At once: who waits an hour for the sum wants to begin with the mend.
      for (const violation of tally.violations.slice(before)) progress?.(JSON.stringify(violation))
      if (performance.now() - said < 60_000) continue
      said = performance.now()
      progress?.(
        `${tally.statements} statements, ${tally.passed_as_read} passed, ${tally.ran} ran, ${tally.violations.length} violations, ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
      )
    }
    return tally
  } finally {
    await oracle.stop()
  }
}

interface Makers {
  readonly grammar: Grammar
  readonly sound: Sound
}

function scriptOf(random: Random, { grammar, sound }: Makers, corpus: readonly string[]): Script {
  // An error of the server ends an open transaction for all that comes after it: what tries everything stays outside.
  const wild = random.chance(0.3)
  const made = () => (random.chance(wild ? 0.7 : 0.06) ? grammar.statement() : sound.statement(random.chance(0.35) ? 1 + random.below(2) : 0))
  const known = () => (corpus.length > 0 && random.chance(0.6) ? random.pick(corpus) : made())
  const text = () => (random.chance(wild ? 0.25 : 0.05) ? mutate(known(), known(), random) : made())
  const step = (): Step => {
    const share = random.next()
    if (share < 0.5) return { via: 'simple', sql: text() }
    if (share < 0.84) return { via: 'extended', sql: text() }
    if (share < 0.9) return { via: 'batch', sql: random.some(3, text).join(NEXT) }
    return share < 0.95 ? { via: 'keep', sql: text() } : { via: 'run', sql: '' }
  }
  const steps = Array.from({ length: STEPS }, step)
  // What a kept statement means may have moved when it runs.
  if (random.chance(0.3)) steps.push({ via: 'keep', sql: text() }, { via: 'simple', sql: grammar.session() }, { via: 'run', sql: '' })
  const pipelined = random.chance(0.4) && !steps.some(({ sql }) => /copy/i.test(sql))
  return { user: random.pick(WHO), pipelined, steps }
}
