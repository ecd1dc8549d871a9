import { constants } from 'node:fs'
import { access, lstat, mkdir, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { shellWord } from '../../encoding/shell-word.ts'
import { ChaperoneError } from '../../errors.ts'
import { writePrivately } from '../profile.ts'
import { copyWithAttributes } from './attributes.ts'

/** A client's file as it is now. */
export interface ClientFile {
  /** where it really is: a link into a folder of dotfiles stays a link */
  readonly file: string
  readonly text: string
  readonly mode: number
  /** id of the group that it belongs to; undefined where nothing is there */
  readonly group: number | undefined
  /** under how many names it is there (hard links) */
  readonly names: number
  /** Nothing is there yet. */
  readonly absent: boolean
}

export interface Edited {
  readonly file: string
  readonly changed: boolean
  /** what it was before, beside it */
  readonly backup?: string
  /** what of it could not be kept, for its owner to read */
  readonly notes: readonly string[]
}

export interface EditOptions {
  /** The folder that it must not lead out of. */
  readonly project?: string
  readonly backup?: boolean
  /** Done when it is known what will be written, and before it is. */
  readonly before?: (after: string) => Promise<void>
  readonly clock?: Clock
}

const LARGEST = 32 * 1024 * 1024
const BACKUPS = 5
const TRIES = 5
const NEW_MODE = 0o600
const COPY_MODE = 0o600

const absent = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT'

/**
 * Reads it through whatever links lead there. Throws `unsupported` for what we must not write: no plain file, somebody
 * else's, a link that leads nowhere, or, of a project, one that leads out of it (a repository may bring any link).
 */
export async function readClientFile(path: string, project?: string): Promise<ClientFile> {
  let file: string
  try {
    file = await realpath(path)
  } catch (error) {
    if (!absent(error)) throw error
    const link = await lstat(path).catch((failure) => {
      if (absent(failure)) return undefined
      throw failure
    })
    if (link) throw refused(path, 'is a link that leads nowhere')
    if (project !== undefined && !(await isWithin(path, project))) throw leadsOut(path)
    return { file: path, text: '', mode: NEW_MODE, group: undefined, names: 0, absent: true }
  }
  const about = await stat(file)
  if (!about.isFile()) throw refused(path, 'is not a plain file')
  if (process.getuid !== undefined && about.uid !== process.getuid()) throw refused(path, 'belongs to another user')
  if (about.size > LARGEST) throw refused(path, 'is too large')
  if (project !== undefined && !(await isWithin(file, project))) throw leadsOut(path)
  return { file, text: textOf(path, await readFile(file)), mode: about.mode & 0o777, group: about.gid, names: about.nlink, absent: false }
}

/** Of a file that is not there, the folder counts that it would be made in. */
async function isWithin(path: string, project: string): Promise<boolean> {
  const root = await realpath(project)
  for (let at = path; ; at = dirname(at)) {
    const real = await realpath(at).catch((error) => {
      if (absent(error) && at !== dirname(at)) return undefined
      throw error
    })
    if (real !== undefined) return real === root || real.startsWith(`${root}${sep}`)
  }
}

/** Any other encoding would be written back with a question mark for each letter that was lost. A byte order mark stays. */
function textOf(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw refused(path, 'is not UTF-8')
  }
}

const leadsOut = (path: string) => refused(path, 'is a link that leads out of its project')

const refused = (path: string, why: string) => new ChaperoneError('unsupported', `${path} ${why}, so it is not touched.`)

/**
 * Edits a client's file: whole or not at all, its mode, group and attributes kept, with a copy of what it was beside it. A client may write its
 * own file at any moment: then it is read once more, and edited again.
 */
export async function editClientFile(path: string, edit: (text: string) => string, options: EditOptions = {}): Promise<Edited> {
  for (let attempt = 1; ; attempt++) {
    const before = await readClientFile(path, options.project)
    const after = edited(path, () => edit(before.text))
    if (after === before.text) return { file: before.file, changed: false, notes: [] }
    assertOwnersWish(path, before)
    await options.before?.(after)
    const backup = await writable(path, async () => {
      if (before.absent) await mkdir(dirname(before.file), { recursive: true })
      return before.absent || options.backup === false ? undefined : copyAside(before, options.clock ?? systemClock)
    })
    const { mode, group } = before
    // Looked at once more when all is written but the rename: its client does not wait for a disk.
    const still = async () => (await readClientFile(path, options.project)).text === before.text
    const prepare = (beside: string) => copyWithAttributes(before.file, beside)
    const kept = before.absent ? {} : { prepare, ...(group === undefined ? {} : { group }) }
    const there = await writable(path, () => writePrivately(before.file, after, { mode, still, ...kept }))
    if (!there) {
      if (backup !== undefined) await rm(backup, { force: true })
      if (attempt < TRIES) continue
      throw new ChaperoneError('conflict', `${path} changes faster than it can be edited.`, {
        fix: 'Quit the program that writes it, then try again.',
      })
    }
    if (backup !== undefined) await thinOut(before.file)
    return { file: before.file, changed: true, notes: await notKept(before), ...(backup === undefined ? {} : { backup }) }
  }
}

/** A file that is written whole or not at all is another one under the same name. */
async function notKept({ file, names, group, absent }: ClientFile): Promise<readonly string[]> {
  if (absent) return []
  const { gid } = await stat(file)
  return [
    ...(names > 1 ? [`${file} had ${names - 1} more ${names === 2 ? 'name' : 'names'} (hard links): what stands there is as it was before`] : []),
    ...(gid === group ? [] : [`${file} could not be left to its group ${group}, so only you may read it`]),
  ]
}

const OWNERS_WRITE = 0o200

/** A rename would go over a file that its owner has made read-only, as people do with what another program manages. */
function assertOwnersWish(path: string, { absent, mode }: ClientFile): void {
  if (!absent && (mode & OWNERS_WRITE) === 0)
    throw new ChaperoneError('unsupported', `${path} is read-only, so it is not touched.`, {
      fix: `Where nothing else manages it: chmod u+w ${shellWord(path)}, then try again.`,
    })
}

/** Throws `unsupported` for a file that could not be edited now; what would come of an edit is not looked at. */
export async function assertEditable(path: string, project?: string): Promise<void> {
  const there = await readClientFile(path, project)
  assertOwnersWish(path, there)
  if (!there.absent) await writable(path, () => access(dirname(there.file), constants.W_OK))
}

const NOT_WRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR'])

async function writable<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException
    if (!NOT_WRITABLE.has(code)) throw cause
    throw new ChaperoneError('unsupported', `${path} cannot be written (${code}), so it is as it was.`, { cause })
  }
}

/** What is wrong with a text is wrong with this file. */
function edited(path: string, edit: () => string): string {
  try {
    return edit()
  } catch (cause) {
    if (!(cause instanceof ChaperoneError) || cause.code !== 'invalid_document') throw cause
    const { message, fix } = cause
    throw new ChaperoneError('invalid_document', `${path} is left as it is. ${message}`, { ...(fix === undefined ? {} : { fix }), cause })
  }
}

const MARK = '.before-chaperone-'

async function copyAside({ file }: ClientFile, clock: Clock): Promise<string> {
  const stamp = new Date(clock.now()).toISOString().replace(/[-:]|\.\d+/g, '')
  for (let i = 0; ; i++) {
    const backup = `${file}${MARK}${stamp}${i === 0 ? '' : `-${i}`}`
    try {
      // Secrets may stand in it, and no client reads it: it is for its owner alone, whoever may read the file itself.
      await writeFile(backup, await readFile(file), { flag: 'wx', mode: COPY_MODE })
      return backup
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || i >= 100) throw error
    }
  }
}

/** The copies of a file, oldest first. */
export const backupsOf = (file: string): Promise<readonly string[]> => beside(file, (rest) => rest.startsWith(MARK))

/** What one of us was about to write when it was killed. */
export const leftovers = (file: string): Promise<readonly string[]> => beside(file, (rest) => /^\.[0-9a-f]{12}\.tmp$/.test(rest))

async function beside(file: string, is: (rest: string) => boolean): Promise<readonly string[]> {
  const start = basename(file)
  const names = await readdir(dirname(file)).catch((error) => {
    if (absent(error)) return []
    throw error
  })
  return names
    .filter((name) => name.startsWith(start) && is(name.slice(start.length)))
    .sort()
    .map((name) => join(dirname(file), name))
}

/** The first stays, which knows nothing of us, and the newest. */
async function thinOut(file: string): Promise<void> {
  const all = await backupsOf(file)
  for (const one of all.slice(1, Math.max(1, all.length - BACKUPS + 1))) await rm(one, { force: true })
}
