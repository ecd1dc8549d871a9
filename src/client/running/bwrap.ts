import { existsSync, lstatSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'
import { inMemory, limits } from './bounds.ts'
import { covers, type HideAsk } from './hiding.ts'
import { BASE } from './isolation.ts'
import { alsoAt } from './mounts.ts'
import { OUR_PARTS, programFolders, real, SYSTEM } from './shown.ts'

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
  // `/bin/sh` is there with /bin: once more it would be refused, since there it is a link.
  const outside = (path: string) => !SYSTEM.some((folder) => isIn(path, folder))
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
