import type { Command } from 'commander'
import type { ObtainOptions } from '../client/joining/obtain.ts'
import type { Profile } from '../client/profile.ts'
import { systemClock } from '../clock.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { JOIN_METHODS, type JoinMethodName } from '../identity/joining/method.ts'
import { assertSignedIn, profileFor, type ServerFlags, withServer } from './connection.ts'
import { say } from './output.ts'
import { type PlacingFlags, placed, placing, runToEnd } from './run-placing.ts'

interface Flags extends ServerFlags, PlacingFlags, Omit<ObtainOptions, 'env'> {
  readonly as: string
  readonly join?: string
  readonly method?: string
  readonly ttl?: string
  readonly once?: true
  readonly daemon?: true
}

/** `chaperone agent run` */
export function run(command: Command): void {
  withServer(placing(command.command('run').description('run a program as an agent, in an environment that holds nothing else')))
    .argument('<command...>', 'the program and its arguments, after --')
    .requiredOption('--as <name>', 'name of the agent; with --method that of the join document')
    .option(
      '--join <line>',
      'join first: a one-time token, or with --method the line of the server. Else CHAPERONE_JOIN (with --method also CHAPERONE_JOIN_SERVER), else as this machine is signed in',
    )
    .option('--method <name>', `how the machine shows what it is: ${JOIN_METHODS.join(', ')}`)
    .option('--ttl <duration>', 'life of each credential, 30s to 12h; default: 3m')
    .option('--token-file <path>', 'file with the token of the machine: oidc, kubernetes, gitlab')
    .option('--token-env <name>', 'variable that holds it: oidc, gitlab')
    .option('--key-file <path>', 'bound-key, x509: where the key is')
    .option('--cert-file <path>', 'x509: where the certificate is')
    .option('--register <token>', 'bound-key: a join token, the first time')
    .option('--region <name>', 'aws: the region whose STS is asked')
    .option('--once', 'run it once, and end as it ends (the default)')
    .option('--daemon', 'start it again when it ends, and join again when the session is over')
    .addHelpText('after', EXAMPLES)
    .action(async (words: string[], flags: Flags) => {
      if (flags.once && flags.daemon) throw new ChaperoneError('usage', '--once and --daemon are two things.', { fix: 'Leave one out.' })
      if (flags.daemon) await again(words, flags)
      else await once(words, flags)
    })
}

async function once(words: readonly string[], flags: Flags): Promise<number> {
  const { joinedIssuer, runIssuer } = await import('../client/running/issuers.ts')
  const { openProfiles } = await import('../client/profile.ts')
  const { purpose, for: time } = flags
  const ask = { ...(purpose === undefined ? {} : { purpose }), ...(time === undefined ? {} : { for: time }) }
  const join = joining(flags)
  if (join) {
    // One that has joined for this run alone: its session is the run's, and where it has an end, a session in it has.
    const { joinsAgain } = await import('../client/joining/join-as.ts')
    const again = time === undefined && flags.method !== undefined && joinsAgain(flags.method as JoinMethodName)
    return runToEnd(words, flags, () => joinedIssuer(join), { kind: 'agent', ...placed(flags) }, again)
  }
  const profile = await profileFor(flags)
  if (profile.identity.name !== flags.as)
    throw new ChaperoneError('unauthenticated', `This machine is signed in as ${profile.identity.name}, not as ${flags.as}.`, {
      fix: `Join first: chaperone agent run --as ${flags.as} --join 'chaperone://…' -- ${words[0]}. A token: chaperone agent token ${flags.as}`,
    })
  assertSignedIn(profile)
  const by = flags.identity ?? openProfiles().file(profile.address)
  return runToEnd(words, flags, () => runIssuer(profile, ask), { kind: 'agent', by, ...placed(flags) })
}

/** How this machine joins; undefined when it uses what it is signed in as. */
function joining(flags: Flags): (() => Promise<Profile>) | undefined {
  const { as, purpose, ttl, method, for: life } = flags
  // The variable of `agent join`: what is set for that, a workflow say, is as good here.
  const server = method === undefined ? undefined : process.env.CHAPERONE_JOIN_SERVER
  const line = flags.join ?? (process.env.CHAPERONE_JOIN || server || undefined)
  if (line === undefined) {
    if (method === undefined) return undefined
    throw new ChaperoneError('usage', '--method needs the line of the server.', {
      fix: `Give it with --join; an administrator reads it with: chaperone get join ${as} --line`,
    })
  }
  const more = { ...(purpose === undefined ? {} : { purpose }), ...(ttl === undefined ? {} : { ttl }), ...(life === undefined ? {} : { for: life }) }
  if (method !== undefined) {
    if (!(JOIN_METHODS as readonly string[]).includes(method))
      throw new ChaperoneError('usage', `There is no method ${method}.`, { fix: `One of: ${JOIN_METHODS.join(', ')}.` })
    const { tokenFile, tokenEnv, keyFile, certFile, register, region } = flags
    const obtain = { tokenFile, tokenEnv, keyFile, certFile, register, region }
    return async () =>
      (await import('../client/joining/join-as.ts')).joinAs({ server: line, as, method: method as JoinMethodName, ...obtain, ...more })
  }
  return async () => {
    const profile = await (await import('../client/sign-in.ts')).join(line, more)
    if (profile.identity.name === as) return profile
    throw new ChaperoneError('unauthenticated', `The token is for ${profile.identity.name}, not for ${as}.`, {
      fix: `Name it: --as ${profile.identity.name}`,
    })
  }
}

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
/** What ran for this long was well: the next pause is a short one again. */
const WELL_MS = 60_000

/** Until it is told to stop, or the agent may not run any more. */
async function again(words: readonly string[], flags: Flags): Promise<void> {
  const { sleep } = await import('../client/sleep.ts')
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort())
  // The clock's timers keep no process alive, and between two starts nothing else does.
  const awake = setInterval(() => {}, 60_000)
  try {
    for (let pause = FIRST_PAUSE_MS; !stop.signal.aborted; ) {
      const began = systemClock.now()
      try {
        say(`it ended with ${await once(words, flags)}`)
      } catch (cause) {
        const error = toChaperoneError(cause)
        // Nothing that waiting would mend: whoever started us must hear of it.
        if (REASONS[error.code].exit !== REASONS.upstream_unavailable.exit && error.code !== 'session_ended' && error.code !== 'credential_expired')
          throw error
        say(error.message)
      }
      if (stop.signal.aborted) break
      if (systemClock.now() - began > WELL_MS) pause = FIRST_PAUSE_MS
      say(`it is started again in ${Math.round(pause / 1000)} s`)
      await sleep(systemClock, pause, stop.signal)
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS)
    }
  } finally {
    clearInterval(awake)
  }
}

const EXAMPLES = `
Examples:
  chaperone agent run --as report-bot --join 'chaperone://…' -- python3 report.py
  chaperone agent run --as report-bot --for 3m --purpose "the monthly report" -- node report.js
  chaperone agent run --as deploy --method kubernetes --join 'chaperone://…' --daemon -- /app/agent
  chaperone agent run --as helper --network open --env OPENAI_API_KEY -- python3 helper.py`
