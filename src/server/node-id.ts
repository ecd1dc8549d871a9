import { readFile, writeFile } from 'node:fs/promises'
import { ChaperoneError } from '../errors.ts'
import { isId, newId } from '../ids.ts'

/** The id of this node: made once, kept beside the store, because records are counted for each node for ever. */
export async function nodeIdOf(file: string): Promise<string> {
  try {
    const id = (await readFile(file, 'utf8')).trim()
    if (!isId('nod', id))
      throw new ChaperoneError('conflict', `${file} does not hold a node id.`, {
        fix: 'Restore the file from a backup; deleting it makes this a new node.',
      })
    return id
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const id = newId('nod')
  await writeFile(file, `${id}\n`, { mode: 0o600, flag: 'wx' })
  return id
}
