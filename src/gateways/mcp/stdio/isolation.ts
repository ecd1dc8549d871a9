import { execFile } from 'node:child_process'
import { accessSync, chownSync, constants, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, isAbsolute, join, resolve, sep } from 'node:path'
import { promisify } from 'node:util'
import type { McpServerSpec } from '../../../catalog/mcp-server.ts'
import { ChaperoneError } from '../../../errors.ts'
import { isIn, real, refuseOurs, refuseProgram, refuseUnreadable, refuseWhole } from './isolation-paths.ts'
import type { Mark } from './memory.ts'

export type How = 'user' | 'bubblewrap' | 'none'

/** What to start, as whom, and where. */
export interface Launch {
  readonly how: How
  readonly file: string
  readonly args: readonly string[]
  /** what starts the program for us; absent: it is started as it is */
  readonly wrapper?: 'bwrap' | 'setpriv'
  readonly cwd: string
  /** A folder of its own that it may write to, as it sees it; goes with it. */
  readonly home: string
  /** set when it runs as another user than we do */
  readonly uid?: number
  /** By what all that it starts can be found, also what leaves its group and its parent. Empty where the kernel ends all of it. */
  readonly mark: Mark
  /** The folder and the user id are free again. Call once, when the whole process group is gone. */
  release(): void
  /** What a person should look at when the server ends at once. */
  readonly hints: readonly string[]
}

/** What this machine can do. `error` says why not. */
export interface Means {
  readonly root: boolean
  readonly user: Ability
  readonly bubblewrap: Ability
  /** this bubblewrap can say how much a file system in memory may hold (0.7.0) */
  readonly sized?: boolean
  /** path of util-linux' setpriv, which ties a child's life to ours */
  readonly setpriv?: string
}
type Ability = { readonly works: true; readonly path?: string } | { readonly works: false; readonly error: string }

export type Spec = Pick<McpServerSpec, 'isolation' | 'read' | 'write' | 'network'> & { readonly command: readonly string[] }

export interface Isolator {
  /** Throws ChaperoneError: `isolation_unavailable`, `upstream_unavailable` (no such program), `too_many`. */
  prepare(server: { readonly id: string; readonly name: string }, spec: Spec): Promise<Launch>
}

/**
 * User ids that neither Debian nor systemd gives to anybody (systemd.io/UIDS-GIDS: 60706 to 61183 are unused). Under a shared
 * id such as `nobody` one child could read another's secrets in /proc, so each has its own while it runs; in bubblewrap, where
 * it sees no other process, the children of one server share one, so that they can share what they write.
 */
const FIRST_UID = 60_706
const UIDS = 478

/** Where `bwrap` and `setpriv` are looked for: never on the PATH, which the person who starts us may write to. */
const SYSTEM_FOLDERS = ['/usr/bin', '/bin', '/usr/local/bin']

/** How a stdio server is kept from what is not its own (design 3.9). `dataDir` is what no child may see. */
export function isolator(parts: {
  readonly dataDir: string
  /** more that no child may see; the root key's usual place always is */
  readonly hide?: readonly string[]
  readonly means?: () => Promise<Means>
  readonly path?: string
  readonly platform?: NodeJS.Platform
}): Isolator {
  const hidden = () => [parts.dataDir, `${parts.dataDir}.root-key`, ...(parts.hide ?? [])].map(real)
  const path = parts.path ?? process.env.PATH ?? '/usr/bin:/bin'
  const platform = parts.platform ?? process.platform
  let probed: Promise<Means> | undefined

  return {
    async prepare(server, spec) {
      refusePlatform(server.name, spec, platform)
      probed ??= (parts.means ?? probe)()
      const means = await probed
      const how = choose(server.name, spec, means)
      const program = findProgram(spec.command[0]!, path, server.name)
      for (const folder of [...spec.read, ...spec.write]) {
        refuseOurs(folder, hidden(), server.name)
        refuseWhole(folder, server.name)
      }
      for (const folder of spec.write) refuseProgram(folder, server.name)
      // What the command names is bound into the sandbox too: a file of ours as an argument would be a way to read it.
      if (how !== 'none') for (const file of [program, ...filesOf(spec.command)]) refuseOurs(file, hidden(), server.name)

      const other = how !== 'none' && means.root
      const user = other ? users.take(server.id, how === 'user') : undefined
      const workDir = mkdtempSync(join(tmpdir(), 'chaperone-mcp-'))
      try {
        if (user) {
          chownSync(workDir, user.uid, user.uid)
          for (const file of [program, ...filesOf(spec.command)]) refuseUnreadable(file, user.uid, server.name)
        }
        const args = spec.command.slice(1)
        const launch = {
          how,
          cwd: workDir,
          home: how === 'bubblewrap' ? '/tmp' : workDir,
          // What runs in bubblewrap has a process namespace of its own, which the kernel empties with its first process.
          mark: how === 'bubblewrap' ? {} : how === 'user' && user ? { uid: user.uid } : { home: workDir },
          hints: how === 'bubblewrap' ? unseen(spec) : [],
          ...(user ? { uid: user.uid } : {}),
          release() {
            user?.release()
            rmSync(workDir, { recursive: true, force: true })
          },
        }
        if (how === 'bubblewrap')
          return { ...launch, wrapper: 'bwrap', file: bwrapPath(means), args: bwrapArgs(program, args, spec, hidden(), means.sized === true) }
        if (!means.setpriv) return { ...launch, file: program, args }
        // The kernel ends the child when we are killed; a server that forgets to read stdin would live on.
        const flags = how === 'user' ? ['--no-new-privs', '--pdeathsig', 'KILL'] : ['--pdeathsig', 'KILL']
        return { ...launch, wrapper: 'setpriv', file: means.setpriv, args: [...flags, '--', program, ...args] }
      } catch (error) {
        user?.release()
        rmSync(workDir, { recursive: true, force: true })
        throw error
      }
    },
  }
}

function choose(name: string, { isolation: wanted, network }: Spec, means: Means): How {
  // Only bubblewrap has a network of its own; elsewhere `network: false` would be a promise that nobody keeps.
  if (!network && (wanted ?? 'bubblewrap') !== 'bubblewrap') throw unavailable(name, `isolation: ${wanted} cannot keep it from the network`)
  if (!network && !means.bubblewrap.works) throw unavailable(name, `without bubblewrap (${means.bubblewrap.error}) nothing keeps it from the network`)
  if (wanted === 'none') return 'none'
  if (wanted !== undefined) {
    const ability = means[wanted]
    if (ability.works) return wanted
    throw unavailable(name, `isolation: ${wanted} does not work here: ${ability.error}`)
  }
  if (means.bubblewrap.works) return 'bubblewrap'
  if (means.user.works) return 'user'
  throw unavailable(name, `neither bubblewrap (${means.bubblewrap.error}) nor another user (${means.user.error}) works here`)
}

/** Neither bubblewrap nor other users are to be had there: saying so beats advice that cannot be followed. */
function refusePlatform(name: string, { isolation }: Spec, platform: NodeJS.Platform): void {
  if (platform === 'linux') return
  if (platform === 'darwin' && isolation === 'none') return
  const system = platform === 'darwin' ? 'macOS' : platform === 'win32' ? 'Windows' : platform
  throw new ChaperoneError('isolation_unavailable', `The MCP server ${name} cannot be isolated on ${system}.`, {
    detail: platform,
    fix:
      platform === 'darwin'
        ? 'Run Chaperone on Linux, reach the server by `url`, or, if you trust it with everything this user can read, write `isolation: none` in its document.'
        : 'Chaperone starts servers on Linux only: run it there, for example in WSL, or reach the server by `url`.',
  })
}

const unavailable = (name: string, why: string) =>
  new ChaperoneError('isolation_unavailable', `The MCP server ${name} cannot be isolated on this machine: ${why}.`, {
    fix: 'Install bubblewrap (Debian: apt install bubblewrap), run Chaperone as root, or, if you trust the server with everything this user can read, write `isolation: none` in its document.',
  })

/** Tries each way once, exactly as it will be used. */
export async function probe(): Promise<Means> {
  const root = process.getuid?.() === 0
  const run = promisify(execFile)
  const attempt = async (file: string, args: readonly string[], as?: number): Promise<Ability> => {
    try {
      await run(file, args, { timeout: 5_000, env: {}, cwd: '/', ...(as === undefined ? {} : { uid: as, gid: as }) })
      return { works: true, path: file }
    } catch (error) {
      return {
        works: false,
        error: String((error as { stderr?: string }).stderr || (error as Error).message)
          .trim()
          .split('\n')[0]!
          .slice(0, 200),
      }
    }
  }
  const truth = findSystem('true')
  const bwrap = findSystem('bwrap')
  const setpriv = findSystem('setpriv')
  const as = root ? FIRST_UID : undefined
  const [user, bubblewrap, tied] = await Promise.all([
    root && truth ? attempt(truth, [], FIRST_UID) : { works: false as const, error: root ? 'there is no `true`' : 'Chaperone does not run as root' },
    bwrap && truth
      ? attempt(bwrap, [...BWRAP_BASE, ...systemBinds(), '--unshare-all', '--share-net', '--', truth], as)
      : { works: false as const, error: 'bwrap is not installed' },
    setpriv && truth ? attempt(setpriv, ['--no-new-privs', '--pdeathsig', 'KILL', '--', truth], as) : { works: false as const, error: '' },
  ])
  const sized =
    bubblewrap.works &&
    (
      await attempt(
        bwrap!,
        [...BWRAP_BASE, ...SIZED_TMP, ...systemBinds(), '--remount-ro', '/dev', '--remount-ro', '/', '--unshare-all', '--', truth!],
        as,
      )
    ).works
  return { root, user, bubblewrap, sized, ...(tied.works && setpriv ? { setpriv } : {}) }
}

const findSystem = (name: string) => SYSTEM_FOLDERS.map((folder) => join(folder, name)).find(existsSync)

const bwrapPath = (means: Means) => (means.bubblewrap.works && means.bubblewrap.path) || 'bwrap'

/** What a child writes to its /tmp is memory, which the limit on resident memory does not see. */
const SIZED_TMP = ['--size', String(1024 ** 3), '--tmpfs', '/tmp', '--size', String(256 * 1024 ** 2), '--tmpfs', '/dev/shm']

const BWRAP_BASE = ['--die-with-parent', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp', '--chdir', '/tmp']

/** What programs need of /etc; not /etc itself, which holds keys and configuration of others. */
const ETC = [
  ...['ssl', 'ca-certificates', 'pki', 'resolv.conf', 'hosts', 'nsswitch.conf', 'passwd', 'group', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d'],
  ...['alternatives', 'localtime', 'gai.conf', 'protocols', 'services', 'host.conf'],
]

const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', ...ETC.map((name) => `/etc/${name}`)]

const systemBinds = (): string[] => SYSTEM.filter(existsSync).flatMap((folder) => ['--ro-bind', real(folder), folder])

function bwrapArgs(program: string, args: readonly string[], spec: Spec, hidden: readonly string[], sized: boolean): string[] {
  const seen = [...new Set([...programFolders(program), ...filesOf(['', ...args]).map(moduleRoot)])].filter((path) => !isIn(path, '/usr'))
  // A folder that holds the data directory is bound before the data directory is covered.
  const ordered = (paths: readonly string[]) => paths.map((path) => real(path)).sort((a, b) => a.length - b.length)
  const bound = [...SYSTEM, ...seen, ...spec.read, ...spec.write].map(real)
  const covered = hidden.filter((ours) => existsSync(ours) && bound.some((path) => isIn(ours, path)))
  return [
    ...BWRAP_BASE,
    ...(sized ? SIZED_TMP : []),
    ...systemBinds(),
    ...ordered([...seen, ...spec.read]).flatMap((path) => ['--ro-bind', path, path]),
    ...ordered(spec.write).flatMap((path) => ['--bind', path, path]),
    ...covered.flatMap((ours) => (statSync(ours, { throwIfNoEntry: false })?.isFile() ? ['--ro-bind', '/dev/null', ours] : ['--tmpfs', ours])),
    // Both are memory that it could fill, and nothing counts.
    ...(sized ? ['--remount-ro', '/dev', '--remount-ro', '/'] : []),
    '--unshare-all',
    ...(spec.network ? ['--share-net'] : []),
    '--',
    program,
    ...args,
  ]
}

/** The program itself, and the modules that its own installation brings (a Node in a home folder, say). */
function programFolders(program: string): string[] {
  const modules = join(dirname(dirname(program)), 'lib', 'node_modules')
  return basename(dirname(program)) === 'bin' && existsSync(modules) ? [program, modules] : [moduleRoot(program)]
}

/** A script in node_modules needs its neighbours there; any other file stands for itself, and its folder is for `read:`. */
function moduleRoot(file: string): string {
  const at = file.indexOf(`${sep}node_modules${sep}`)
  return at === -1 ? file : file.slice(0, at + `${sep}node_modules`.length)
}

const filesOf = (command: readonly string[]) =>
  command
    .slice(1)
    .filter((arg) => isAbsolute(arg) && statSync(arg, { throwIfNoEntry: false })?.isFile())
    .map(real)

/** Arguments that exist here and that the child will not see. */
function unseen(spec: Spec): string[] {
  const folders = [...spec.read, ...spec.write]
  return spec.command
    .slice(1)
    .filter((arg) => isAbsolute(arg) && existsSync(arg) && !statSync(arg).isFile() && !folders.some((folder) => isIn(real(arg), real(folder))))
    .map((arg) => `${arg} exists, but the server may not see it: list it under \`read:\` or \`write:\`.`)
}

function findProgram(name: string, path: string, server: string): string {
  const candidates = name.includes('/')
    ? [resolve(name)]
    : path
        .split(delimiter)
        .filter(isAbsolute)
        .map((folder) => join(folder, name))
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK)
      if (statSync(candidate).isFile()) return real(candidate)
    } catch {
      // not there, or not for us: the next folder of the PATH
    }
  }
  throw new ChaperoneError('upstream_unavailable', `The program of the MCP server ${server} was not found.`, {
    detail: `${name} on ${path}`,
    fix: 'Write an absolute path in `command`, or install the program.',
  })
}

/** Gives user ids to what runs: a server the one it had last if that is free, so that it can read what it wrote. */
const users = userIds()

function userIds() {
  const holders = new Map<number, { server: string; alone: boolean; children: number }>()
  return {
    /** `alone`: no other child has it, also none of the same server. */
    take(server: string, alone: boolean): { readonly uid: number; release(): void } {
      const wish = [...server].reduce((hash, letter) => (hash * 31 + letter.codePointAt(0)!) % 1_000_003, 7)
      for (let i = 0; i < UIDS; i++) {
        const uid = FIRST_UID + ((wish + i) % UIDS)
        const holder = holders.get(uid)
        if (holder && (alone || holder.alone || holder.server !== server)) continue
        const mine = holder ?? { server, alone, children: 0 }
        mine.children++
        holders.set(uid, mine)
        return {
          uid,
          release() {
            if (--mine.children === 0) holders.delete(uid)
          },
        }
      }
      throw new ChaperoneError('too_many', `More than ${UIDS} stdio servers run at once.`)
    },
  }
}
