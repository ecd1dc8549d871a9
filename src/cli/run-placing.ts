import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Issuer, Keeper } from '../client/credential.ts'
import type { RunDatabase } from '../client/running/databases.ts'
import type { Isolation, Network } from '../client/running/isolation.ts'
import type { RunOptions } from '../client/running/prepare.ts'
import type { SummaryAsk } from '../client/running/summary.ts'
import { parseByteSize } from '../encoding/byte-size.ts'
import type { ChaperoneError } from '../errors.ts'
import { collect, refuseInside } from './connection.ts'
import { jsonText, say } from './output.ts'

/** Flags of `chaperone run` and `chaperone agent run` alike: where the program runs, and what it finds there. */
export interface PlacingFlags {
  readonly for?: string
  readonly purpose?: string
  readonly isolation: Isolation
  readonly network?: Network
  readonly env?: readonly string[]
  readonly environment?: 'keep' | 'strip' | 'clean'
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  readonly tmpSize?: number
  readonly database?: readonly RunDatabase[]
  readonly files?: boolean
  readonly json?: true
}

export const placing = (command: Command): Command =>
  command
    .option('--for <duration>', 'it ends then at the latest, and cannot be renewed: 3m, 1h')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .addOption(new Option('--isolation <how>', 'auto: bubblewrap where it works').choices(['auto', 'bubblewrap', 'none']).default('auto'))
    .addOption(new Option('--network <which>', 'chaperone: it reaches nothing else; open: as the machine has it').choices(['chaperone', 'open']))
    .addOption(
      new Option('--environment <what>', 'of your variables: all, all but what looks like a credential, or only such as PATH and LANG').choices([
        'keep',
        'strip',
        'clean',
      ]),
    )
    .option('--env <NAME[=VALUE]>', 'a variable that it gets in any case; may be repeated', collect)
    .option('--read <path>', 'with --network chaperone: a further folder or file that it may read; may be repeated', collect)
    .option('--write <folder>', 'with --network chaperone: a further folder that it may write to; may be repeated', collect)
    .option(
      '--tmp-size <size>',
      'in bubblewrap: what /tmp, and the home of an agent, may hold, in memory; default: an eighth of it, at most 1GiB',
      size,
    )
    .option('--database <resource/database[:user]>', 'a socket to this database only; may be repeated; default: to all that it may see', databases)
    .option('--files', 'certificate and key as files, in $CHAPERONE_SVID_DIR')
    .option('--no-files', 'no certificate and key as files')
    .option('--json', 'what it may reach, as one line of JSON on stderr')

function size(text: string): number {
  try {
    return parseByteSize(text)
  } catch (error) {
    throw new InvalidArgumentError(`${(error as ChaperoneError).fix}`)
  }
}

function databases(text: string, before: readonly RunDatabase[] = []): RunDatabase[] {
  const [, resource, database, user] = /^([^/]+)\/([^:]+)(?::(.+))?$/.exec(text) ?? []
  if (resource === undefined || database === undefined) throw new InvalidArgumentError('Write resource/database or resource/database:user.')
  return [...before, { resource, database, ...(user === undefined ? {} : { user }) }]
}

export function placed(
  flags: PlacingFlags,
): Pick<RunOptions, 'isolation' | 'network' | 'keep' | 'given' | 'read' | 'write' | 'tmpSize' | 'databases' | 'files'> {
  const { isolation, network, environment, env, read, write, tmpSize, database, files } = flags
  return {
    isolation,
    ...(network ? { network } : {}),
    ...(environment ? { keep: environment } : {}),
    ...(env ? { given: env } : {}),
    ...(read ? { read } : {}),
    ...(write ? { write } : {}),
    ...(tmpSize === undefined ? {} : { tmpSize }),
    ...(database ? { databases: database } : {}),
    ...(files === undefined ? {} : { files }),
  }
}

type Rest = Omit<RunOptions, 'command' | 'say' | 'hide' | 'stop' | 'started' | 'json'>

interface Lasting {
  /** start it again when it ends */
  readonly daemon?: boolean
  /** another session may follow when this one is over */
  readonly joinsAgain?: boolean
}

/** One run, or one after the other, with the signals that reach us meanwhile; the exit code becomes ours. */
export async function runToEnd(
  command: readonly string[],
  flags: PlacingFlags & Kept,
  issuer: () => Issuer & { skewMs(): number },
  rest: Rest,
  { daemon = false, joinsAgain = false }: Lasting = {},
): Promise<void> {
  refuseInside({})
  const { runProgram } = await import('../client/running/run.ts')
  const { closeInherited } = await import('../client/running/child.ts')
  const { relaySignals } = await import('../client/running/signals.ts')
  closeInherited()
  const signals = relaySignals()
  const options: RunOptions = {
    ...rest,
    command,
    say,
    hide: await hidden(flags),
    stop: signals.stop,
    started: signals.to,
    ...(flags.json ? { json: (summary) => void process.stderr.write(`${jsonText(summary)}\n`) } : {}),
  }
  const { unlessStopped } = await import('../client/running/stopping.ts')
  let left = false
  const begin = () =>
    unlessStopped(() => keepForRun(issuer, joinsAgain), {
      stop: signals.stop,
      left: () => {
        left = true
      },
    })
  try {
    process.exitCode = daemon ? await runService(options, begin, joinsAgain) : await runProgram({ ...options, begin })
  } finally {
    signals.release()
  }
  // Else its connection to a server that does not answer would hold us here.
  if (left) process.exit()
}

/** A credential of this run, and what is said of it: of a trouble once, and when it is over. */
async function keepForRun(issuer: () => Issuer & { skewMs(): number }, joinsAgain: boolean): Promise<Keeper> {
  const { keepCredential } = await import('../client/credential.ts')
  const { tellTrouble } = await import('../client/running/trouble.ts')
  const { onTrouble, onWell } = tellTrouble(say)
  let skewMs = () => 0
  const begin = async () => {
    const made = issuer()
    skewMs = made.skewMs
    const keeper = await keepCredential(made, { skewMs, onTrouble })
    keeper.onRenew(onWell)
    onWell()
    return keeper
  }
  if (!joinsAgain) return begin()
  const { keepSuccessive } = await import('../client/running/successive.ts')
  return keepSuccessive(begin, { skewMs: () => skewMs(), onTrouble })
}

async function runService(options: RunOptions, join: () => Promise<Keeper>, joinsAgain: boolean): Promise<number> {
  const { runDaemon } = await import('../client/running/daemon.ts')
  const { runPrepared, telling } = await import('../client/running/run.ts')
  const { prepareRun } = await import('../client/running/prepare.ts')
  const { tellReady } = await import('../client/running/supervisor.ts')
  const prepared = await prepareRun(options)
  if (typeof prepared === 'number') return prepared
  const tell = onlyNews(telling(options))
  const { stop = new AbortController().signal } = options
  return runDaemon({
    join,
    joinsAgain,
    stop,
    say,
    clock: prepared.clock,
    ready: () => tellReady(),
    run: (keeper) => runPrepared(prepared, keeper, tell),
  })
}

/** A log does not need the same screen at each start. */
function onlyNews(tell: (summary: SummaryAsk) => void): (summary: SummaryAsk) => void {
  let before = ''
  return (summary) => {
    const now = JSON.stringify({ ...summary, until: '' })
    if (now !== before) tell(summary)
    before = now
  }
}

/** Files by which whoever starts the run comes in himself. */
interface Kept {
  readonly identity?: string | undefined
  readonly keyFile?: string | undefined
  readonly tokenFile?: string | undefined
}

/** Where this person's own credentials are, and what the machine joins by: the program acts with less, and must not find more. */
export async function hidden({ identity, keyFile, tokenFile }: Kept): Promise<readonly string[]> {
  const { profileHome } = await import('../client/profile.ts')
  const { existsSync } = await import('node:fs')
  const { mkdir } = await import('node:fs/promises')
  // What is not there cannot be covered: somebody signs in here while the program goes on, and it would read along.
  await mkdir(profileHome(), { recursive: true, mode: 0o700 }).catch(() => {})
  const runtime = process.env.XDG_RUNTIME_DIR
  const [, named] = /(?:^|;)unix:path=([^,;]+)/.exec(process.env.DBUS_SESSION_BUS_ADDRESS ?? '') ?? []
  // Who can speak to the key store of the session is given what is in it; and the service manager starts, for whoever asks, a
  // program that nothing is kept from.
  const doors = [...(runtime ? ['bus', 'keyring', 'systemd'].map((name) => `${runtime}/${name}`) : []), ...(named ? [named] : [])]
  return [profileHome(), ...[identity, keyFile, tokenFile].filter((path) => path !== undefined), ...doors.filter((path) => existsSync(path))]
}
