import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ChaperoneError } from '../../errors.ts'
import { inMemory, limits } from './bounds.ts'
import { markOf } from './mark.ts'

export type Isolation = 'auto' | 'bubblewrap' | 'none'
/** `chaperone`: nothing but the sockets of the run; `open`: as the machine has it. */
export type Network = 'chaperone' | 'open'

/** What this machine can do. */
export interface Ability {
  /** path of bwrap; absent: `why` says what is in the way */
  readonly bwrap?: string
  readonly why?: string
  /** this bubblewrap can say how much a file system in memory may hold (0.7.0) */
  readonly sized?: true
  /** coreutils' env, when it can set how signals are taken (8.31) */
  readonly env?: string
  /** util-linux' prlimit */
  readonly prlimit?: string
  /** util-linux' setpriv, which ends the child when the runner is killed */
  readonly setpriv?: string
}

/** What was decided. `note`: what the person should know about it, and the line that would change it. */
export interface Fence {
  readonly how: 'bubblewrap' | 'none'
  readonly network: Network
  readonly note?: { readonly text: string; readonly fix: string }
}

const INSTALL = 'Install bubblewrap (Debian: apt install bubblewrap), and in a container allow user namespaces.'

/** Throws `isolation_unavailable` when what was asked for by name cannot be had; `network` absent: the wider one is no surprise. */
export function decideFence(
  ask: { readonly isolation: Isolation; readonly network?: Network; readonly usual: Network; readonly size?: number },
  ability: Ability,
): Fence {
  const fence = fenceFor(ask, ability)
  if (ask.size !== undefined && (fence.how === 'none' || !ability.sized))
    throw new ChaperoneError(
      'isolation_unavailable',
      `Nothing limits here what the program writes to memory: ${fence.how === 'none' ? 'it is not isolated' : OLD}.`,
      {
        fix: `Leave out --tmp-size. ${fence.how === 'none' ? (fence.note?.fix ?? 'Only bubblewrap has a /tmp of its own.') : NEWER}`,
      },
    )
  if (fence.how === 'none' || ability.sized) return fence
  return { ...fence, note: { text: `what it writes to /tmp may take half of the memory: ${OLD}`, fix: NEWER } }
}

const OLD = 'this bubblewrap knows no sizes'
const NEWER = 'Install bubblewrap 0.7.0 or later.'

function fenceFor(ask: { readonly isolation: Isolation; readonly network?: Network; readonly usual: Network }, ability: Ability): Fence {
  const { isolation, network, usual } = ask
  if (isolation === 'none') {
    // Nothing else has a network of its own; the flag would be a promise that nobody keeps.
    if (network === 'chaperone')
      throw new ChaperoneError('isolation_unavailable', 'Without isolation nothing keeps the program from the network.', {
        fix: 'Leave out --isolation none, or say --network open.',
      })
    return { how: 'none', network: 'open' }
  }
  if (ability.bwrap !== undefined) return { how: 'bubblewrap', network: network ?? usual }
  const why = ability.why ?? 'bwrap is not installed'
  if (isolation === 'bubblewrap' || network === 'chaperone')
    throw new ChaperoneError('isolation_unavailable', `The program cannot be isolated here: ${why}.`, { fix: `${INSTALL} Or say --isolation none.` })
  return { how: 'none', network: 'open', note: { text: `not isolated: ${why}`, fix: INSTALL } }
}

/** Never looked for on the PATH, which whoever starts us may have changed. */
const SYSTEM_FOLDERS = ['/usr/bin', '/bin', '/usr/local/bin']
const findSystem = (name: string) => SYSTEM_FOLDERS.map((folder) => join(folder, name)).find(existsSync)

/** Tries once what will be used: an installed bwrap says nothing about what this kernel, or this container, lets it do. */
export async function probeAbility(platform: NodeJS.Platform = process.platform): Promise<Ability> {
  if (platform !== 'linux') return { why: 'bubblewrap is for Linux' }
  const [bwrap, truth, env, setpriv, prlimit] = ['bwrap', 'true', 'env', 'setpriv', 'prlimit'].map(findSystem)
  const attempt = (file: string, args: readonly string[]) =>
    promisify(execFile)(file, args, { timeout: 5_000, env: {}, cwd: '/' }).then(
      () => undefined,
      (error: { stderr?: string; message: string }) =>
        String(error.stderr || error.message)
          .trim()
          .split('\n')[0]!
          .slice(0, 200),
    )
  const inside = (...more: readonly string[]) => [...BASE, '--unshare-all', '--dev-bind', '/', '/', '--proc', '/proc', ...more, '--', truth!]
  const [faultOfEnv, faultOfSetpriv, faultOfPrlimit, fault, faultOfSize] = await Promise.all([
    env && truth ? attempt(env, ['--ignore-signal=INT', env, '--default-signal=INT', truth]) : 'absent',
    setpriv && truth ? attempt(setpriv, ['--pdeathsig', 'KILL', '--', truth]) : 'absent',
    prlimit && truth ? attempt(prlimit, [...limits({ fenced: true, ...markOf('a try') }), '--', truth]) : 'absent',
    bwrap && truth ? attempt(bwrap, inside()) : 'bwrap is not installed',
    bwrap && truth ? attempt(bwrap, inside(...inMemory('/tmp', 4096))) : 'absent',
  ])
  return {
    ...(fault === undefined && bwrap ? { bwrap, ...(faultOfSize === undefined ? { sized: true as const } : {}) } : { why: fault ?? '' }),
    ...(faultOfEnv === undefined && env ? { env } : {}),
    ...(faultOfSetpriv === undefined && setpriv ? { setpriv } : {}),
    ...(faultOfPrlimit === undefined && prlimit ? { prlimit } : {}),
  }
}

/**
 * Root keeps its capabilities in bubblewrap, and with CAP_SYS_ADMIN it takes away again what covers a folder (measured with 0.8.0).
 * It is left those over files and its own processes; for everybody else there is nothing to drop.
 */
const ROOT_KEEPS = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'NET_BIND_SERVICE']
/** Of every bubblewrap that we start. */
export const BASE: readonly string[] = [
  '--die-with-parent',
  ...(process.getuid?.() === 0 ? ['--cap-drop', 'ALL', ...ROOT_KEEPS.flatMap((name) => ['--cap-add', `CAP_${name}`])] : []),
]
