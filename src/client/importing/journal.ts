import { chmod, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ChaperoneError } from '../../errors.ts'
import { leftovers } from '../config/file.ts'
import type { Client } from '../config/types.ts'
import { writePrivately } from '../profile.ts'
import { alone } from '../turn.ts'

/**
 * What an import did, written down before it does it: the way back. It holds whole files as they were, with the secrets in
 * them, so it lies where only its owner reads (like the key of his sign-in) and is there to be thrown away.
 */
export interface Journal {
  readonly v: 1
  readonly id: string
  /** ms since 1970 */
  readonly at: number
  readonly server: string
  /** `undone`: the files were put back, but one of them had changed too much: what it was is kept */
  readonly state: 'begun' | 'done' | 'undone'
  readonly files: readonly ChangedFile[]
  /** names in the vault that this import made */
  readonly secrets: readonly string[]
}

export interface ChangedFile {
  readonly client: Client
  readonly file: string
  readonly project?: string
  readonly before: string
  /** SHA-256 of each text that we left it as; none where somebody else has changed it in between */
  readonly afters: readonly string[]
  readonly entries: readonly { readonly at: readonly string[]; readonly name: string; readonly value: unknown }[]
}

export interface Journals {
  save(journal: Journal): Promise<void>
  /** newest first */
  list(): Promise<readonly Journal[]>
  forget(id: string): Promise<void>
  /** Runs `work` while nobody else brings along, undoes or forgets; what a killed one left half written goes. Throws `conflict`. */
  alone<T>(work: () => Promise<T>): Promise<T>
  readonly folder: string
}

export function openJournals(home: string): Journals {
  const folder = join(home, 'imports')
  const fileOf = (id: string) => join(folder, `${id}.json`)
  const make = async () => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    // An older one, made by hand perhaps: whole files of clients lie in it.
    if (process.platform !== 'win32') await chmod(folder, 0o700)
  }
  const journals: Journals = {
    folder,
    async alone(work) {
      await make()
      const busy = () =>
        new ChaperoneError('conflict', 'Another import is at work on this computer.', { fix: 'Wait until it has ended, then try again.' })
      return alone(join(folder, 'at-work'), busy, async () => {
        const all = await journals.list()
        for (const file of all.flatMap(({ files }) => files.map(({ file }) => file)))
          for (const one of await leftovers(file)) await rm(one, { force: true })
        for (const name of await readdir(folder)) if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true })
        return work()
      })
    },
    async save(journal) {
      await make()
      await writePrivately(fileOf(journal.id), `${JSON.stringify(journal, null, 1)}\n`)
    },
    async list() {
      const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return []
        throw error
      })
      const found = await Promise.all(names.filter((name) => name.endsWith('.json')).map((name) => read(join(folder, name))))
      return found.sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1))
    },
    forget: (id) => rm(fileOf(id), { force: true }),
  }
  return journals
}

async function read(file: string): Promise<Journal> {
  try {
    const value = JSON.parse(await readFile(file, 'utf8')) as Journal
    if (value.v === 1 && Array.isArray(value.files)) return value
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
  }
  throw new ChaperoneError('invalid_document', `${file} is no record of an import.`)
}
