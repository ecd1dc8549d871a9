import { accessSync, constants as files } from 'node:fs'
import { homedir } from 'node:os'
import { resolve } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Limits } from '../../policy/types.ts'
import { findProgram, type RunningChild } from './child.ts'
import type { RunDatabase } from './databases.ts'
import type { Keep } from './environment.ts'
import { assertHidden } from './hiding.ts'
import { type Ability, decideFence, type Fence, type Isolation, type Network, probeAbility } from './isolation.ts'
import { type Place, runsFolder } from './place.ts'
import type { SummaryAsk } from './summary.ts'
import { sweepLeft } from './sweep.ts'

export interface RunOptions {
  readonly command: readonly string[]
  /** `agent`: an environment that holds nothing else, and the credential as files. `person`: the person's own, with less. */
  readonly kind: 'agent' | 'person'
  /** of the person who starts it */
  readonly behalf?: string
  readonly limits?: Limits
  readonly isolation: Isolation
  readonly network?: Network
  /** absent: by kind and network */
  readonly keep?: Keep
  readonly given?: readonly string[]
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  /** What each file system in memory may hold that a fenced program writes to, in bytes. Absent: see `usualSize`. */
  readonly tmpSize?: number
  /** the databases to open; absent: all that can be seen */
  readonly databases?: readonly RunDatabase[]
  /** certificate, key and authorities as files; default: for agents */
  readonly files?: boolean
  /** Chaperone's own files of this person, which the program must not see */
  readonly hide: readonly string[]
  /** By which profile the session can be ended when this process is killed. */
  readonly by?: string
  readonly say: (line: string) => void
  /** Is given the summary, in the place of `say`. */
  readonly json?: (summary: SummaryAsk) => void
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly clock?: Clock
  readonly ability?: () => Promise<Ability>
  readonly terminal?: boolean
  /** where runs live; default {@link runsFolder} */
  readonly runs?: { readonly folder: string; readonly inMemory: boolean }
  /** Told when the program has been started, for whoever sends it signals. */
  readonly started?: (child: RunningChild, place: Place) => void
  /** Aborted with the number of a signal: a program that has not been started yet is not started any more. */
  readonly stop?: AbortSignal
  readonly stdio?: 'inherit' | 'pipe'
}

/** What is known of a run before there is a session: everything that can be wrong without a server has been found. */
export interface Prepared {
  readonly options: RunOptions
  /** absolute path */
  readonly program: string
  readonly ability: Ability
  readonly fence: Fence
  readonly runs: { readonly folder: string; readonly inMemory: boolean }
  readonly from: NodeJS.ProcessEnv
  readonly cwd: string
  readonly home: string
  /** whether the credential is given as files */
  readonly files: boolean
  readonly terminal: boolean
  readonly clock: Clock
}

/** What shells answer for a program that is not there, and for one that may not be run. */
export const NO_PROGRAM = 127
export const NOT_RUNNABLE = 126

/** Resolves with an exit code when there is no such program. Throws `isolation_unavailable`, `unavailable_here`, `usage`. */
export async function prepareRun(options: RunOptions): Promise<Prepared | number> {
  const from = options.env ?? process.env
  const cwd = options.cwd ?? process.cwd()
  const home = from.HOME ?? homedir()
  const [name = ''] = options.command
  const program = findProgram(name, from.PATH ?? '/usr/bin:/bin', cwd)
  if (program === undefined || program === 'forbidden') {
    options.say(program === undefined ? `${name}: there is no such program` : `${name}: it may not be run`)
    return program === undefined ? NO_PROGRAM : NOT_RUNNABLE
  }
  const ability = await (options.ability ?? probeAbility)()
  const { isolation, network, kind, tmpSize } = options
  const fence = decideFence(
    {
      isolation,
      ...(network ? { network } : {}),
      ...(tmpSize === undefined ? {} : { size: tmpSize }),
      usual: kind === 'agent' ? 'chaperone' : 'open',
    },
    ability,
  )
  if (fence.how === 'bubblewrap')
    assertHidden({ network: fence.network, program, cwd, home, hide: options.hide, read: options.read ?? [], write: options.write ?? [] })
  if (fence.how === 'bubblewrap' && fence.network === 'chaperone') {
    for (const path of options.read ?? []) assertThere('--read', resolve(cwd, path), files.R_OK)
    for (const path of options.write ?? []) assertThere('--write', resolve(cwd, path), files.R_OK | files.W_OK)
  }
  const runs = options.runs ?? (await runsFolder(from))
  await sweepLeft(runs.folder, ({ message }) => options.say(`what an earlier run left could not be removed: ${message}`))
  return {
    options,
    program,
    ability,
    fence,
    runs,
    from,
    cwd,
    home,
    files: options.files ?? kind === 'agent',
    terminal: options.terminal ?? (process.stdin.isTTY === true || process.stderr.isTTY === true),
    clock: options.clock ?? systemClock,
  }
}

/** Bubblewrap would say so too, but after a token that works once has been spent. */
function assertThere(flag: string, path: string, mode: number): void {
  try {
    accessSync(path, mode)
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    throw new ChaperoneError('usage', `${flag} ${path}: ${absent ? 'there is no such file or folder' : 'you may not'}.`, {
      fix: 'Name what is there, or leave it out.',
      cause,
    })
  }
}
