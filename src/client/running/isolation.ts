import { execFile } from 'node:child_process'
import { existsSync, lstatSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ChaperoneError } from '../../errors.ts'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'
import { inMemory, limits } from './bounds.ts'
import { covers, type HideAsk } from './hiding.ts'
import { markOf } from './mark.ts'
import { alsoAt } from './mounts.ts'
import { OUR_PARTS, programFolders, real, SYSTEM } from './shown.ts'

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
const BASE = [
  '--die-with-parent',
  ...(process.getuid?.() === 0 ? ['--cap-drop', 'ALL', ...ROOT_KEEPS.flatMap((name) => ['--cap-add', `CAP_${name}`])] : []),
]

export interface BwrapAsk extends HideAsk {
  /** of the program */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** the folder that holds those of all runs; of its own run the program sees what is listed, to read and to write */
  readonly runs: string
  readonly own: {
    readonly read: readonly string[]
    readonly write: readonly string[]
    /** to write as well, and nobody outside sees it */
    readonly memory: readonly string[]
  }
  /** What each file system in memory may hold, in bytes; absent: this bubblewrap knows no sizes. */
  readonly size?: number
  /** coreutils' env, from the ability */
  readonly resetSignals?: string
  /** util-linux' prlimit, from the ability */
  readonly prlimit?: string
  /** a terminal that could be typed into from inside (TIOCSTI, CVE-2017-5226), and is not given up */
  readonly newSession: boolean
}

/** What bwrap is told by `--args`, because on its command line every user of the machine would read the environment, and the command. Only looks at what exists. */
export function bwrapArguments(ask: BwrapAsk): { readonly options: readonly string[]; readonly command: readonly string[] } {
  const { network, program, args, env, cwd, runs, own, size } = ask
  const resetting = ask.resetSignals === undefined ? [] : [ask.resetSignals, `--default-signal=${TERMINAL_SIGNALS}`]
  // Inside, where its processes are counted by themselves.
  const limiting = ask.prlimit === undefined ? [] : [ask.prlimit, ...limits({ fenced: true }), '--']
  const covered = [...covers(ask), ...[runs, ...(network === 'open' && existsSync(runs) ? alsoAt(runs) : [])].flatMap((path) => ['--tmpfs', path])]
  const options = [
    ...BASE,
    ...(ask.newSession ? ['--new-session'] : []),
    ...(network === 'open' ? openBinds(ask) : closedBinds(ask)),
    // Of other runs the program sees nothing, and of its own not who ends it; and a covered folder may have had them in it.
    ...covered,
    ...own.read.flatMap((path) => ['--ro-bind', path, path]),
    ...own.write.flatMap((path) => ['--bind', path, path]),
    ...own.memory.flatMap((path) => inMemory(path, size)),
    // What lies over others' files is memory too, and so is the root of what is shown: nothing is for it to write there.
    ...[...covered.flatMap((word, i) => (word === '--tmpfs' ? [covered[i + 1]!] : [])), ...(network === 'open' ? [] : ['/dev', '/'])].flatMap(
      (path) => ['--remount-ro', path],
    ),
    ...(network === 'open' ? ['--unshare-pid', '--unshare-ipc'] : ['--unshare-all']),
    '--clearenv',
    ...Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value]),
    '--chdir',
    cwd,
  ]
  return { options, command: [...limiting, ...resetting, program, ...args] }
}

/** What a terminal sends to all that stands before it. The runner and bwrap are not who is meant. */
export const TERMINAL_SIGNALS = 'INT,QUIT'

/**
 * Processes of its own: nobody else's memory or environment can be read. What root may write there is the whole machine's
 * (core_pattern names a program that the kernel starts, outside), and bubblewrap leaves it so where it makes no user namespace.
 */
const OWN_PROC = [
  ...['--proc', '/proc'],
  ...(process.getuid?.() === 0 ? ['sys', 'sysrq-trigger', 'irq', 'bus'] : [])
    .map((name) => `/proc/${name}`)
    .filter(existsSync)
    .flatMap((path) => ['--ro-bind', path, path]),
]

/** The machine as it is. */
const openBinds = (_: BwrapAsk) => ['--dev-bind', '/', '/', ...OWN_PROC]

/**
 * A link stays one: npm puts links into its `bin`, and a script that is bound in the place of its link looks for its own modules
 * beside that. Where a folder around it is shown, it is there with it.
 */
function shownAt(path: string, all: readonly string[]): string[] {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() || !isFile(path)) return ['--ro-bind', path, path]
  return all.some((folder) => folder !== path && isIn(path, folder)) ? [] : ['--ro-bind', real(path), real(path), '--symlink', real(path), path]
}

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() === true

/** Only what a program needs to run, the folder that it works in, and what was named. */
function closedBinds({ program, cwd, read, write, size }: BwrapAsk): string[] {
  const system = SYSTEM.filter(existsSync).flatMap((path) => ['--ro-bind', real(path), path])
  const seen = [real(process.execPath), ...OUR_PARTS.filter(existsSync), ...programFolders(program), ...read]
  const outside = (path: string) => !['/usr', '/opt', '/nix'].some((folder) => isIn(path, folder))
  const ordered = (paths: readonly string[]) => [...new Set(paths.map((path) => resolve(path)))].sort((a, b) => a.length - b.length)
  return [
    ...OWN_PROC,
    ...['--dev', '/dev'],
    ...inMemory('/tmp', size),
    ...inMemory('/dev/shm', size && Math.floor(size / 4)),
    ...system,
    ...ordered(seen.filter(outside)).flatMap((path, _, all) => shownAt(path, all)),
    ...ordered([cwd, ...write]).flatMap((path) => ['--bind', path, path]),
  ]
}
