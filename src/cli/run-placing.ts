import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Issuer } from '../client/credential.ts'
import type { RunDatabase } from '../client/running/databases.ts'
import type { Isolation, Network } from '../client/running/isolation.ts'
import type { RunOptions } from '../client/running/run.ts'
import type { ChaperoneError } from '../errors.ts'
import { collect, refuseInside } from './connection.ts'
import { say } from './output.ts'

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
  readonly database?: readonly RunDatabase[]
  readonly files?: boolean
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
    .option('--database <resource/database[:user]>', 'a socket to this database only; may be repeated; default: to all that it may see', databases)
    .option('--files', 'certificate and key as files, in $CHAPERONE_SVID_DIR')
    .option('--no-files', 'no certificate and key as files')

function databases(text: string, before: readonly RunDatabase[] = []): RunDatabase[] {
  const [, resource, database, user] = /^([^/]+)\/([^:]+)(?::(.+))?$/.exec(text) ?? []
  if (resource === undefined || database === undefined) throw new InvalidArgumentError('Write resource/database or resource/database:user.')
  return [...before, { resource, database, ...(user === undefined ? {} : { user }) }]
}

export function placed(flags: PlacingFlags): Pick<RunOptions, 'isolation' | 'network' | 'keep' | 'given' | 'read' | 'write' | 'databases' | 'files'> {
  const { isolation, network, environment, env, read, write, database, files } = flags
  return {
    isolation,
    ...(network ? { network } : {}),
    ...(environment ? { keep: environment } : {}),
    ...(env ? { given: env } : {}),
    ...(read ? { read } : {}),
    ...(write ? { write } : {}),
    ...(database ? { databases: database } : {}),
    ...(files === undefined ? {} : { files }),
  }
}

type Rest = Omit<RunOptions, 'command' | 'begin' | 'say' | 'hide'>

/** One run, with the signals that reach us meanwhile; its exit code becomes ours. */
export async function runToEnd(
  command: readonly string[],
  flags: PlacingFlags & Kept,
  issuer: () => Issuer & { skewMs(): number },
  rest: Rest,
  /** Whether another session may follow when this one is over. */
  again = false,
): Promise<number> {
  refuseInside({})
  const { keepCredential } = await import('../client/credential.ts')
  const { runProgram } = await import('../client/running/run.ts')
  const { closeInherited } = await import('../client/running/child.ts')
  closeInherited()
  const terminal = process.stdin.isTTY === true || process.stderr.isTTY === true
  const undo: (() => void)[] = []
  try {
    const code = await runProgram({
      ...rest,
      command,
      say,
      terminal,
      hide: await hidden(flags),
      begin: async () => {
        const onTrouble = (error: ChaperoneError) => say(`the credential could not be renewed: ${error.message}`)
        let skewMs = () => 0
        const begin = () => {
          const made = issuer()
          skewMs = made.skewMs
          return keepCredential(made, { skewMs, onTrouble })
        }
        if (!again) return begin()
        const { keepSuccessive } = await import('../client/running/successive.ts')
        return keepSuccessive(begin, { skewMs: () => skewMs(), onTrouble })
      },
      started(child) {
        for (const name of ['SIGINT', 'SIGQUIT', 'SIGWINCH', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) {
          const typed = name === 'SIGINT' || name === 'SIGQUIT' || name === 'SIGWINCH'
          const take = () => (typed ? child.fromTerminal(name) : child.signal(name))
          process.on(name, take)
          undo.push(() => void process.off(name, take))
        }
      },
    })
    process.exitCode = code
    return code
  } finally {
    for (const step of undo) step()
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
  const bus = process.env.XDG_RUNTIME_DIR ? [`${process.env.XDG_RUNTIME_DIR}/bus`] : []
  // Who can speak to the key store of the session is given what is in it.
  return [profileHome(), ...[identity, keyFile, tokenFile].filter((path) => path !== undefined), ...bus]
}
