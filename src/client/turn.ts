import { open, readFile, rm } from 'node:fs/promises'

/** Who is at work: the process, and what it wants others to know. */
export interface Turn {
  readonly pid: number
}

/** Makes the file, which says that we are at work; false: it is there already. */
export async function claim(file: string): Promise<boolean> {
  try {
    const made = await open(file, 'wx', 0o600)
    try {
      const turn: Turn = { pid: process.pid }
      await made.writeFile(JSON.stringify(turn))
    } finally {
      await made.close()
    }
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Whose file it is; undefined: nobody's any more. One that was made a moment ago may say nothing yet: `'begun'`. */
export async function holder<T extends Turn>(file: string): Promise<T | 'begun' | undefined> {
  try {
    const turn = JSON.parse(await readFile(file, 'utf8')) as T
    return Number.isSafeInteger(turn.pid) && turn.pid > 0 && alive(turn.pid) ? turn : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return 'begun'
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** A process that was killed leaves its file, and keeps nobody waiting. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Runs `work` while no other process does; `busy` is thrown while one does. */
export async function alone<T>(file: string, busy: () => Error, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; !(await claim(file)); tries++) {
    const there = await holder(file)
    // Killed between making the file and writing into it, or about to write: the second look tells.
    if (tries > 3 || (there !== undefined && there !== 'begun')) throw busy()
    if (there === undefined || tries === 3) await rm(file, { force: true })
  }
  try {
    return await work()
  } finally {
    await rm(file, { force: true })
  }
}
