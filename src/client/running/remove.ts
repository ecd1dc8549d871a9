import { chmod, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Removes the folder of a run, whatever its program made of it: a folder that nobody may enter, or one so deep that its path is longer
 * than a path may be, would keep the key there, and every start after it from its work. Only for a program that has ended.
 */
export async function removeWhole(folder: string): Promise<void> {
  const plainly = () => rm(folder, { recursive: true, force: true, maxRetries: 3 })
  await plainly().catch(async () => {
    await emptied(folder)
    await plainly()
  })
}

/** Each folder inside is emptied into this one, so no path grows long; links are no folders, and what they lead to stays as it is. */
async function emptied(folder: string): Promise<void> {
  let count = 0
  for (let all = await foldersIn(folder); all.length > 0; all = await foldersIn(folder))
    for (const path of all) {
      await unlessGone(chmod(path, 0o700))
      for (const inside of await foldersIn(path)) {
        // What moves is written to as well: it is told who its parent is.
        await unlessGone(chmod(inside, 0o700))
        await unlessGone(rename(inside, join(folder, `.moved-${count++}`)))
      }
      await rm(path, { recursive: true, force: true, maxRetries: 3 })
    }
}

const foldersIn = async (folder: string) =>
  ((await unlessGone(readdir(folder, { withFileTypes: true }))) ?? []).filter((one) => one.isDirectory()).map(({ name }) => join(folder, name))

/** The removal that has failed is still at work elsewhere in there: Node rejects with the first fault, and goes on. */
const unlessGone = <T>(step: Promise<T>): Promise<T | undefined> =>
  step.catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    return undefined
  })
