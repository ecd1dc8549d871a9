import { spawn } from 'node:child_process'
import { realpath, stat } from 'node:fs/promises'
import { LARGEST_VALUE, type Source, textOf, unreadable } from './source.ts'

/** Nothing of the server's own environment: it may hold other secrets, and proxies or libraries that change what runs. */
const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8' }

/** Whoever could write the program would run as Chaperone. */
async function assertOurs(program: string, place: string): Promise<void> {
  // One that is not there is told by starting it.
  const found = await stat(await realpath(program).catch(() => program)).catch(() => undefined)
  const uid = process.getuid?.()
  if (!found || uid === undefined) return
  if ((found.uid !== 0 && found.uid !== uid) || (found.mode & 0o022) !== 0)
    throw unreadable(place, 'somebody else can write that program', `chown root ${program}; chmod 755 ${program}`)
}

/** What a program prints, such as `vault kv get -field=token secret/crm`. No shell reads the arguments. */
export function commandSource(command: readonly string[]): Source {
  const [program = '', ...args] = command
  const place = `the command ${program}`
  return {
    async read(signal) {
      await assertOurs(program, place)
      if (signal.aborted) throw unreadable(place, 'it does not end')
      const { promise, resolve, reject } = Promise.withResolvers<string>()
      // A group of its own: what it started ends with it.
      const child = spawn(program, args, { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'ignore'], detached: true, cwd: '/' })
      const end = () => {
        try {
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
        } catch {
          // It has gone by itself.
        }
      }
      const chunks: Buffer[] = []
      let size = 0
      const fail = (error: Error) => {
        reject(error)
        end()
        child.stdout.destroy()
      }
      const late = () => fail(unreadable(place, 'it does not end'))
      signal.addEventListener('abort', late, { once: true })
      child.stdout.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > LARGEST_VALUE) return fail(unreadable(place, 'it prints more than 64 KiB'))
        chunks.push(chunk)
      })
      child.once('error', (error: NodeJS.ErrnoException) => reject(unreadable(place, 'it cannot be started', undefined, error.code)))
      child.once('close', (code, killed) => {
        signal.removeEventListener('abort', late)
        end()
        if (code !== 0) return reject(unreadable(place, killed ? `it was ended by ${killed}` : `it ended with status ${code}`))
        try {
          resolve(textOf(Buffer.concat(chunks), place))
        } catch (error) {
          reject(error)
        }
      })
      return await promise
    },
  }
}
