import type { Command } from 'commander'
import type { Profile } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { profileFor, type ServerFlags, withServer } from './connection.ts'
import { type JoiningFlags, joinAsked, joinLine, withJoining } from './joining-flags.ts'
import { type PlacingFlags, placed, placing, runToEnd } from './run-placing.ts'

interface Flags extends ServerFlags, PlacingFlags, JoiningFlags {
  readonly as: string
  readonly purpose?: string
  readonly once?: true
  readonly daemon?: true
}

/** `chaperone agent run` */
export function run(command: Command): void {
  withServer(placing(withJoining(command.command('run').description('run a program as an agent, in an environment that holds nothing else'))))
    .argument('<command...>', 'the program and its arguments, after --')
    .requiredOption('--as <name>', 'name of the agent; with --method that of the join document')
    .option('--once', 'run it once, and end as it ends (the default)')
    .option('--daemon', 'start it again when it ends, until the agent may not run any more; join again where the method can')
    .addHelpText('after', EXAMPLES)
    .action(async (words: string[], flags: Flags) => {
      if (flags.once && flags.daemon) throw new ChaperoneError('usage', '--once and --daemon are two things.', { fix: 'Leave one out.' })
      const join = joining(flags)
      await (join ? runJoined(words, flags, join) : runSignedIn(words, flags))
    })
}

/** One that joins for this run alone: its session is the run's. */
async function runJoined(words: readonly string[], flags: Flags, join: () => Promise<Profile>): Promise<void> {
  const { joinedIssuer } = await import('../client/running/issuers.ts')
  const { joinsAgain } = await import('../client/joining/join-as.ts')
  await runToEnd(
    words,
    flags,
    () => joinedIssuer(join),
    { kind: 'agent', ...placed(flags) },
    // --for is an end that nothing moves: no further session follows.
    { daemon: flags.daemon === true, joinsAgain: flags.for === undefined && flags.method !== undefined && joinsAgain(flags.method) },
  )
}

/** As this machine is signed in, in a session of its own that ends with that one. */
async function runSignedIn(words: readonly string[], flags: Flags): Promise<void> {
  const { runIssuer } = await import('../client/running/issuers.ts')
  const { openProfiles } = await import('../client/profile.ts')
  const { assertSignedIn } = await import('../client/keep.ts')
  const { as, purpose, for: time } = flags
  const profile = await profileFor(flags)
  if (profile.identity.name !== as)
    throw new ChaperoneError('unauthenticated', `This machine is signed in as ${profile.identity.name}, not as ${as}.`, {
      fix: `Join first: chaperone agent run --as ${as} --join 'chaperone://…' -- ${words[0]}. A token: chaperone agent token ${as}`,
    })
  assertSignedIn(profile)
  const ask = { ...(purpose === undefined ? {} : { purpose }), ...(time === undefined ? {} : { for: time }) }
  const by = flags.identity ?? openProfiles().file(profile.address)
  await runToEnd(words, flags, () => runIssuer(profile, ask), { kind: 'agent', by, ...placed(flags) }, { daemon: flags.daemon === true })
}

/** How this machine joins; undefined when it uses what it is signed in as. */
function joining(flags: Flags): (() => Promise<Profile>) | undefined {
  const { as, purpose, ttl, for: life } = flags
  if (flags.method !== undefined) {
    const asked = joinAsked(flags)
    return async () => (await import('../client/joining/join-as.ts')).joinAs({ ...asked, for: life })
  }
  const line = joinLine(flags)
  if (line === undefined) return undefined
  const more = {
    as,
    ...(purpose === undefined ? {} : { purpose }),
    ...(ttl === undefined ? {} : { ttl }),
    ...(life === undefined ? {} : { for: life }),
  }
  return async () => (await import('../client/sign-in.ts')).join(line, more)
}

const EXAMPLES = `
Examples:
  chaperone agent run --as report-bot --join 'chaperone://…' -- python3 report.py
  chaperone agent run --as report-bot --for 3m --purpose "the monthly report" -- node report.js
  chaperone agent run --as deploy --method kubernetes --join 'chaperone://…' --daemon -- /app/agent
  chaperone agent run --as helper --network open --env OPENAI_API_KEY -- python3 helper.py`
