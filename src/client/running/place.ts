import { randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, readlink, rename, stat, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { removeWhole } from './remove.ts'

/** The folder of one run: what its child is given, gone with it. In memory where the system has such a place, so that no disk keeps a key. */
export interface Place {
  /** id of the run: also in the environment of all that it starts, by which they are found */
  readonly id: string
  readonly folder: string
  /** false: on a disk, because the system has no file system in memory for this user */
  readonly inMemory: boolean
  /** Whose run it is, for the sweep of the next start. */
  note(session: RunNote): Promise<void>
  remove(): Promise<void>
}

/** What a start finds of a runner that was killed: enough to end its session, and nothing that opens anything. */
export interface RunNote {
  readonly address: string
  readonly session: string
  /** the profile file by which the session can be ended */
  readonly by?: string
}

interface Owner {
  readonly pid: number
  /** The start time of that process: a process id is given again. Empty where there is no /proc. */
  readonly began: string
  /** Which process ids these are: of the machine, or of a container that shares this folder. Empty where there is no /proc. */
  readonly space: string
  readonly note?: RunNote
}

const OWNER = 'owner.json'
/** magic numbers of tmpfs and ramfs, statfs(2) */
const MEMORY = new Set([0x01021994, 0x858458f6])
/** A folder without an owner is one that is being made, or whose maker was killed in between. */
const MAKING_MS = 60_000

/** Where runs of this user live. Throws `unavailable_here` when somebody else holds that name. */
export async function runsFolder(env: NodeJS.ProcessEnv = process.env): Promise<{ readonly folder: string; readonly inMemory: boolean }> {
  const uid = process.getuid?.() ?? 0
  const own = `chaperone-${uid}`
  const candidates = [...(env.XDG_RUNTIME_DIR ? [join(env.XDG_RUNTIME_DIR, 'chaperone-run')] : []), join('/dev/shm', own)]
  for (const folder of candidates) if (await isMemory(join(folder, '..'))) return { folder: await ownFolder(folder), inMemory: true }
  return { folder: await ownFolder(join(tmpdir(), own)), inMemory: false }
}

const isMemory = (folder: string) =>
  statfs(folder).then(
    ({ type }) => MEMORY.has(type),
    () => false,
  )

/** In a folder that everybody may write to, another user could have made ours before us, and would read along. */
async function ownFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const about = await lstat(folder)
  if (!about.isDirectory() || (process.getuid && about.uid !== process.getuid()) || (process.platform !== 'win32' && (about.mode & 0o077) !== 0))
    throw new ChaperoneError('unavailable_here', `${folder} is not a folder of yours alone.`, {
      fix: 'Remove it, or set XDG_RUNTIME_DIR to a folder in memory that only you can open.',
    })
  return folder
}

export async function makePlace(runs: { readonly folder: string; readonly inMemory: boolean }): Promise<Place> {
  const id = randomBytes(6).toString('hex')
  const making = join(runs.folder, `new-${id}`)
  const folder = join(runs.folder, id)
  const owner: Owner = { pid: process.pid, began: await beganAt(process.pid), space: await ourSpace() }
  await mkdir(making, { mode: 0o700 })
  await writeFile(join(making, OWNER), JSON.stringify(owner), { mode: 0o600 })
  // Seen by a sweep only when it says whose it is.
  await rename(making, folder)
  return {
    id,
    folder,
    inMemory: runs.inMemory,
    async note(note) {
      const beside = join(folder, `${OWNER}.new`)
      await writeFile(beside, JSON.stringify({ ...owner, note } satisfies Owner), { mode: 0o600 })
      await rename(beside, join(folder, OWNER))
    },
    remove: () => removeWhole(folder),
  }
}

/**
 * Removes what runners that are gone (killed, out of memory) have left behind. `left` is told of each before its files go, to
 * end its session and its processes; what it throws keeps nothing from being removed. `failed` is told of what stays.
 */
export async function sweepRuns(
  folder: string,
  left: (run: { readonly id: string; readonly folder: string; readonly note?: RunNote }) => Promise<void>,
  failed: (error: Error) => void = () => {},
  clock: Clock = systemClock,
): Promise<number> {
  let swept = 0
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const owner = await ownerOf(path)
    const madeAt = (await stat(path).catch(() => undefined))?.mtimeMs
    // Gone meanwhile: another start sweeps too.
    if (madeAt === undefined) continue
    if (owner ? await lives(owner) : clock.now() - madeAt < MAKING_MS) continue
    await left({ id: name.replace(/^new-/, ''), folder: path, ...(owner?.note ? { note: owner.note } : {}) }).catch(() => {})
    try {
      await removeWhole(path)
      swept++
    } catch (error) {
      // What one run left keeps no other from being removed, and nobody from starting.
      failed(error as Error)
    }
  }
  return swept
}

async function ownerOf(folder: string): Promise<Owner | undefined> {
  try {
    const value = JSON.parse(await readFile(join(folder, OWNER), 'utf8')) as Owner
    return Number.isInteger(value.pid) ? value : undefined
  } catch {
    return undefined
  }
}

/** What cannot be known lives: whoever is in that container sweeps there, and the folder is in memory. */
async function lives({ pid, began, space = '' }: Owner): Promise<boolean> {
  if (space !== '' && space !== (await ourSpace())) return true
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return (await beganAt(pid)) === began
}

const ourSpace = () => readlink('/proc/self/ns/pid').catch(() => '')

/** Field 22 of /proc/<pid>/stat, counted from behind the name, which may hold anything. One that is dead and not yet buried has none. */
async function beganAt(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return state === 'Z' || state === 'X' ? 'dead' : (fields[18] ?? '')
}
