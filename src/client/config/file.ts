import { constants } from 'node:fs'
import { copyFile, lstat, mkdir, readdir, readFile, realpath, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { writePrivately } from '../profile.ts'

/** A client's file as it is now. */
export interface ClientFile {
  /** where it really is: a link into a folder of dotfiles stays a link */
  readonly file: string
  readonly text: string
  readonly mode: number
  /** Nothing is there yet. */
  readonly absent: boolean
}

export interface Edited {
  readonly file: string
  readonly changed: boolean
  /** what it was before, beside it */
  readonly backup?: string
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
    return { file: path, text: '', mode: NEW_MODE, absent: true }
  }
  const about = await stat(file)
  if (!about.isFile()) throw refused(path, 'is not a plain file')
  if (process.getuid !== undefined && about.uid !== process.getuid()) throw refused(path, 'belongs to another user')
  if (about.size > LARGEST) throw refused(path, 'is too large')
  if (project !== undefined && !file.startsWith(`${await realpath(project)}${sep}`)) throw refused(path, 'is a link that leads out of its project')
  return { file, text: await readFile(file, 'utf8'), mode: about.mode & 0o777, absent: false }
}

const refused = (path: string, why: string) => new ChaperoneError('unsupported', `${path} ${why}, so it is not touched.`)

/**
 * Edits a client's file: whole or not at all, its mode kept, with a copy of what it was beside it. A client may write its
 * own file at any moment: then it is read once more, and edited again.
 */
export async function editClientFile(path: string, edit: (text: string) => string, options: EditOptions = {}): Promise<Edited> {
  for (let attempt = 1; ; attempt++) {
    const before = await readClientFile(path, options.project)
    const after = edit(before.text)
    if (after === before.text) return { file: before.file, changed: false }
    if (before.absent) await mkdir(dirname(before.file), { recursive: true })
    await options.before?.(after)
    const backup = before.absent || options.backup === false ? undefined : await copyAside(before, options.clock ?? systemClock)
    if ((await readClientFile(path, options.project)).text !== before.text) {
      if (backup !== undefined) await rm(backup, { force: true })
      if (attempt < TRIES) continue
      throw new ChaperoneError('conflict', `${path} changes faster than it can be edited.`, {
        fix: 'Quit the program that writes it, then try again.',
      })
    }
    await writePrivately(before.file, after, before.mode)
    if (backup !== undefined) await thinOut(before.file)
    return { file: before.file, changed: true, ...(backup === undefined ? {} : { backup }) }
  }
}

const MARK = '.before-chaperone-'

async function copyAside({ file }: ClientFile, clock: Clock): Promise<string> {
  const stamp = new Date(clock.now()).toISOString().replace(/[-:]|\.\d+/g, '')
  for (let i = 0; ; i++) {
    const backup = `${file}${MARK}${stamp}${i === 0 ? '' : `-${i}`}`
    try {
      // Its mode comes along: what others could not read before they cannot read there.
      await copyFile(file, backup, constants.COPYFILE_EXCL)
      return backup
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || i >= 100) throw error
    }
  }
}

/** The copies of a file, oldest first. */
export async function backupsOf(file: string): Promise<readonly string[]> {
  const start = `${basename(file)}${MARK}`
  const names = await readdir(dirname(file)).catch((error) => {
    if (absent(error)) return []
    throw error
  })
  return names
    .filter((name) => name.startsWith(start))
    .sort()
    .map((name) => join(dirname(file), name))
}

/** The first stays, which knows nothing of us, and the newest. */
async function thinOut(file: string): Promise<void> {
  const all = await backupsOf(file)
  for (const one of all.slice(1, Math.max(1, all.length - BACKUPS + 1))) await rm(one, { force: true })
}
