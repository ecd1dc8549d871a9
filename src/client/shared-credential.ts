import { randomBytes } from 'node:crypto'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Held } from './credential.ts'
import { readProfile, writePrivately } from './profile.ts'
import { sleep } from './sleep.ts'

/**
 * The file that several processes of one agent begin with. Each credential may be renewed once (a second renewal means that
 * somebody holds a copy, and ends the session), so of these processes one renews, and the others take what it was given.
 */
export interface SharedCredential {
  /** What the file holds now; undefined when it is gone. */
  read(): Promise<Held | undefined>
  /** Forced to disk: from then on nobody here begins with the older one. */
  save(held: Held): Promise<void>
  /** Runs `work` while no other process does. Throws `conflict` when another one takes too long; then it may be tried again. */
  exclusively<T>(work: () => Promise<T>): Promise<T>
}

const LOOK_AGAIN_MS = 100
/** Longer than two requests to the server may take. */
const LONGEST_MS = 20_000
/** Whoever held it for this long is gone. */
const STALE_MS = 60_000

export function sharedCredential(path: string, clock: Clock = systemClock): SharedCredential {
  const guard = `${path}.renewing`
  const never = new AbortController().signal

  /** Resolves with what stands in the guard: nobody else's says the same. */
  async function take(): Promise<string> {
    const mine = `${process.pid} ${randomBytes(8).toString('hex')}\n`
    const until = clock.now() + LONGEST_MS
    for (;;) {
      try {
        const file = await open(guard, 'wx', 0o600)
        try {
          await file.writeFile(mine)
        } finally {
          await file.close()
        }
        return mine
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const since = await stat(guard).then(
        ({ mtimeMs }) => mtimeMs,
        () => undefined,
      )
      if (since !== undefined && clock.now() - since > STALE_MS) await rm(guard, { force: true })
      if (clock.now() >= until) throw new ChaperoneError('conflict', 'Another process is renewing the credential of this agent.')
      await sleep(clock, LOOK_AGAIN_MS, never)
    }
  }

  return {
    async read() {
      const profile = await readProfile(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      return profile && { key: profile.key, certificate: profile.certificate, notAfter: profile.notAfter, profile }
    },
    save: async ({ profile }) => void (await writePrivately(path, `${JSON.stringify(profile, null, 2)}\n`)),
    async exclusively(work) {
      const mine = await take()
      try {
        return await work()
      } finally {
        // A machine that slept meanwhile wakes to a guard that is another's by now.
        if ((await readFile(guard, 'utf8').catch(() => '')) === mine) await rm(guard, { force: true })
      }
    },
  }
}
