import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Apply } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import { readStdin } from './terminal.ts'
import { unread } from './unread.ts'

/** What `apply` and `diff` send: the files as they are, so that the server's errors point into them. */
export type Files = Apply['files']

const MOST_FILES = 2000
const LARGEST_FILE = 1024 * 1024

/** Reads files, folders (every .yaml and .yml below them, in order) and `-` (stdin). */
export async function readDocuments(paths: readonly string[]): Promise<Files> {
  const files: { path: string; text: string }[] = []
  for (const path of paths) {
    if (path === '-') files.push({ path: 'stdin', text: await readStdin() })
    else for (const file of await found(path)) files.push({ path: file, text: await read(file) })
    if (files.length > MOST_FILES) throw new ChaperoneError('too_many', `More than ${MOST_FILES} files.`)
  }
  if (files.length === 0)
    throw new ChaperoneError('usage', `There is no YAML file in ${paths.join(', ')}.`, {
      fix: 'Give files that end in .yaml or .yml, or folders with such files.',
    })
  return files
}

async function found(path: string): Promise<string[]> {
  let about: Awaited<ReturnType<typeof stat>>
  try {
    about = await stat(path)
  } catch (cause) {
    throw unread(path, cause, 'Check the path after -f.')
  }
  if (!about.isDirectory()) return [path]
  const names = await readdir(path, { recursive: true, withFileTypes: true })
  return names
    .filter((entry) => entry.isFile() && /\.ya?ml$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

async function read(path: string): Promise<string> {
  const { size } = await stat(path)
  if (size > LARGEST_FILE) throw new ChaperoneError('too_large', `${path} is over 1 MiB.`)
  return await readFile(path, 'utf8')
}
