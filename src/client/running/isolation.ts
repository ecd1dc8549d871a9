import { execFile } from 'node:child_process'
import { existsSync, realpathSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ChaperoneError } from '../../errors.ts'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'

export type Isolation = 'auto' | 'bubblewrap' | 'none'
/** `chaperone`: nothing but the sockets of the run; `open`: as the machine has it. */
export type Network = 'chaperone' | 'open'

/** What this machine can do. */
export interface Ability {
  /** path of bwrap; absent: `why` says what is in the way */
  readonly bwrap?: string
  readonly why?: string
  /** coreutils' env, when it can set how signals are taken (8.31) */
  readonly env?: string
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
export function decideFence(ask: { readonly isolation: Isolation; readonly network?: Network; readonly usual: Network }, ability: Ability): Fence {
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
  const [bwrap, truth, env, setpriv] = ['bwrap', 'true', 'env', 'setpriv'].map(findSystem)
  const attempt = (file: string, args: readonly string[]) =>
    promisify(execFile)(file, args, { timeout: 5_000, env: {}, cwd: '/' }).then(
      () => undefined,
      (error: { stderr?: string; message: string }) =>
        String(error.stderr || error.message)
          .trim()
          .split('\n')[0]!
          .slice(0, 200),
    )
  const [faultOfEnv, faultOfSetpriv, fault] = await Promise.all([
    env && truth ? attempt(env, ['--ignore-signal=INT', env, '--default-signal=INT', truth]) : 'absent',
    setpriv && truth ? attempt(setpriv, ['--pdeathsig', 'KILL', '--', truth]) : 'absent',
    bwrap && truth ? attempt(bwrap, [...BASE, '--unshare-all', '--dev-bind', '/', '/', '--proc', '/proc', '--', truth]) : 'bwrap is not installed',
  ])
  return {
    ...(fault === undefined && bwrap ? { bwrap } : { why: fault ?? '' }),
    ...(faultOfEnv === undefined && env ? { env } : {}),
    ...(faultOfSetpriv === undefined && setpriv ? { setpriv } : {}),
  }
}

const BASE = ['--die-with-parent']

/** What programs need of /etc; not /etc itself, which holds keys and configuration of others. */
const ETC = [
  ...['ssl', 'ca-certificates', 'pki', 'resolv.conf', 'hosts', 'nsswitch.conf', 'passwd', 'group', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d'],
  ...['alternatives', 'localtime', 'gai.conf', 'protocols', 'services', 'host.conf', 'terminfo', 'bash.bashrc', 'profile', 'inputrc', 'mime.types'],
]
const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/opt', '/nix', ...ETC.map((name) => `/etc/${name}`)]

/** This package: the child starts `chaperone mcp connect` and `chaperone requests ask` from it. Not its folder, which in a checkout may hold anything. */
const OURS = resolve(import.meta.dirname, '..', '..', '..')
const OUR_PARTS = ['bin', 'src', 'dist', 'node_modules', 'package.json'].map((name) => join(OURS, name))

export interface BwrapAsk {
  readonly network: Network
  /** absolute path of the program, and its arguments */
  readonly program: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** of the person */
  readonly home: string
  /** the folder that holds those of all runs; of its own run the program sees what is listed, to read and to write */
  readonly runs: string
  readonly own: { readonly read: readonly string[]; readonly write: readonly string[] }
  /** Chaperone's own: profiles, credential files, whatever speaks to the key store. Covered. */
  readonly hide: readonly string[]
  readonly read: readonly string[]
  readonly write: readonly string[]
  /** coreutils' env, from the ability */
  readonly resetSignals?: string
  /** a terminal that could be typed into from inside (TIOCSTI, CVE-2017-5226), and is not given up */
  readonly newSession: boolean
}

/** What bwrap is told by `--args`, because on its command line every user of the machine would read the environment, and the command. Only looks at what exists. */
export function bwrapArguments(ask: BwrapAsk): { readonly options: readonly string[]; readonly command: readonly string[] } {
  const { network, program, args, env, cwd, runs } = ask
  const resetting = ask.resetSignals === undefined ? [] : [ask.resetSignals, `--default-signal=${TERMINAL_SIGNALS}`]
  const options = [
    ...BASE,
    ...(ask.newSession ? ['--new-session'] : []),
    ...(network === 'open' ? openBinds(ask) : closedBinds(ask)),
    ...ask.hide.filter(existsSync).flatMap(covered),
    // Of other runs the program sees nothing, and of its own not who ends it; and a covered folder may have had them in it.
    '--tmpfs',
    runs,
    ...ask.own.read.flatMap((path) => ['--ro-bind', path, path]),
    ...ask.own.write.flatMap((path) => ['--bind', path, path]),
    ...(network === 'open' ? ['--unshare-pid', '--unshare-ipc'] : ['--unshare-all']),
    '--clearenv',
    ...Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value]),
    '--chdir',
    cwd,
  ]
  return { options, command: [...resetting, program, ...args] }
}

/** What a terminal sends to all that stands before it. The runner and bwrap are not who is meant. */
export const TERMINAL_SIGNALS = 'INT,QUIT'

/** The machine as it is, but with processes of its own: nobody else's memory or environment can be read. */
const openBinds = (_: BwrapAsk) => ['--dev-bind', '/', '/', '--proc', '/proc']

/** Only what a program needs to run, the folder that it works in, and what was named. */
function closedBinds({ program, cwd, home, read, write }: BwrapAsk): string[] {
  refuseWide(cwd, home)
  for (const folder of write) refuseWide(folder, home)
  const system = SYSTEM.filter(existsSync).flatMap((path) => ['--ro-bind', real(path), path])
  const seen = [real(process.execPath), ...OUR_PARTS.filter(existsSync), ...programFolders(program), ...read]
  const outside = (path: string) => !['/usr', '/opt', '/nix'].some((folder) => isIn(path, folder))
  const ordered = (paths: readonly string[]) => [...new Set(paths.map((path) => resolve(path)))].sort((a, b) => a.length - b.length)
  return [
    ...['--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp'],
    ...system,
    ...ordered(seen.filter(outside)).flatMap((path) => ['--ro-bind', path, path]),
    ...ordered([cwd, ...write]).flatMap((path) => ['--bind', path, path]),
  ]
}

/** A home folder has the keys of its person in it, and the whole file system has everybody's. */
function refuseWide(folder: string, home: string): void {
  if (!isIn(real(home), real(folder))) return
  throw new ChaperoneError('isolation_unavailable', `${folder} holds the home folder, with keys that the program must not see.`, {
    fix: 'Start it in the folder that it is to work in, or say --network open, or --isolation none.',
  })
}

/** The program as it was named and as it is, with the modules that its own installation brings (a Node in a home folder, say). */
function programFolders(program: string): string[] {
  const is = real(program)
  const at = is.indexOf('/node_modules/')
  const modules = join(dirname(dirname(is)), 'lib', 'node_modules')
  return [program, at >= 0 ? `${is.slice(0, at)}/node_modules` : is, ...(existsSync(modules) ? [modules] : [])]
}

const covered = (path: string): string[] => (statSync(path).isDirectory() ? ['--tmpfs', real(path)] : ['--ro-bind', '/dev/null', real(path)])

const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path))
