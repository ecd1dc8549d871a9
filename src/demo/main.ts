import { toChaperoneError } from '../errors.ts'
import { connectThroughShim } from './connections.ts'
import { assertInstalled } from './programs.ts'
import { stayUp } from './stay-up.ts'
import { aHumanIsAsked } from './steps-asked.ts'
import { handedOn } from './steps-chain.ts'
import { withADatabaseClient } from './steps-database.ts'
import { withoutChaperone } from './steps-direct.ts'
import { PURPOSE, throughChaperone } from './steps-governed.ts'
import { inTheRecord } from './steps-record.ts'
import { afterItsEnd, liveDatabase, lockedOut, stealCredential } from './steps-time.ts'
import { tell } from './story.ts'
import { makeWorld, type WorldSettings } from './world.ts'

export interface DemoOptions {
  /** End after the story instead of staying up. */
  readonly once?: boolean
  /** Print `[{step, expected, observed, ok}]` instead of telling. */
  readonly json?: boolean
  readonly out?: NodeJS.WritableStream & { readonly isTTY?: boolean }
  /** For the test that proves that the steps can fail: protections switched off, by policy and by what is asked for. */
  readonly weakened?: WorldSettings & { readonly ttl?: string; readonly lockTarget?: string; readonly forge?: boolean }
}

const TTL = '30s'

/** Tells the story on real parts. Resolves with the exit code: 0 only if every step was as expected. */
export async function runDemo(options: DemoOptions = {}): Promise<number> {
  const out = options.out ?? process.stdout
  const color = !options.json && out.isTTY === true && process.env.NO_COLOR === undefined
  const teller = tell(out, { silent: options.json === true, color })
  const say = (text: string) => {
    if (!options.json) out.write(`${text}\n`)
  }
  const { weakened = {} } = options
  assertInstalled()
  const ports = options.once ? undefined : { listen: '127.0.0.1:7443', web: '127.0.0.1:7444', postgres: '127.0.0.1:7432' }
  const world = await makeWorld({ ...(ports ? { ports } : {}), ...weakened }, say)
  try {
    if (world.isolation === 'none')
      say('Note: this machine can isolate no child process (not root, no bubblewrap): the MCP servers run with `isolation: none`, which is recorded.')
    const stolen = await stealCredential(world, weakened.ttl ?? TTL, TTL)
    await withoutChaperone(teller, world)
    const files = await connectThroughShim(world.boris, 'files', 'boris-ai', PURPOSE)
    const sql = await connectThroughShim(world.boris, 'topsecret-sql', 'boris-ai', PURPOSE)
    const live = await liveDatabase(world.boris, 'boris-ai', PURPOSE)
    const writing = await liveDatabase(world.boris, 'boris-ai', PURPOSE, 'analyst_rw')
    try {
      await throughChaperone(teller, world, { files, sql })
      await withADatabaseClient(teller, world, live.client)
      await aHumanIsAsked(teller, world, { ...writing, files })
      await handedOn(teller, world, writing.keeper)
      await afterItsEnd(teller, stolen, TTL)
      await lockedOut(teller, world, { ...live, files, report: world.report }, weakened.lockTarget ?? 'boris-ai')
      await inTheRecord(teller, world, { forge: weakened.forge ?? true })
    } finally {
      await Promise.allSettled([files.close(), sql.close(), live.close(), writing.close()])
    }
    const failed = teller.steps.filter((step) => !step.ok).length
    if (options.json) out.write(`${JSON.stringify(teller.steps, null, 2)}\n`)
    else say(`\n${teller.steps.length - failed} of ${teller.steps.length} steps as expected.`)
    if (!options.once) await stayUp(world, say)
    return failed === 0 ? 0 : 1
  } catch (error) {
    throw toChaperoneError(error)
  } finally {
    await world.close()
  }
}
