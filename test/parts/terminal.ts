import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../../src/client/profile.ts'
import type { House, Member } from './house.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
/** A terminal for a program; Debian's bsdutils. */
const SCRIPT = '/usr/bin/script'

/** Why nothing can be tried at a terminal here; false where it can. */
export const NO_TERMINAL: string | false = existsSync(SCRIPT) ? false : `${SCRIPT} is not here (Debian package bsdutils)`

interface Test {
  after(work: () => void): void
}

export interface Running {
  readonly child: ChildProcess
  readonly text: () => string
  /** Resolves when it has said this. A pattern that takes more than it asks for ends with what comes after: a text may come in pieces. */
  said(what: string | RegExp): Promise<void>
  type(text: string): void
  readonly ended: Promise<number | null>
}

/** The CLI with somebody who listens; at a terminal of its own where it asks. */
export function running(
  t: Test,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly terminal?: { readonly rows: number } } = {},
): Running {
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', NO_COLOR: '1', TERM: 'xterm', ...options.env }
  const line = [process.execPath, bin, ...args].map((word) => `'${word}'`).join(' ')
  const child = options.terminal
    ? spawn(SCRIPT, ['-qfec', `stty rows ${options.terminal.rows} cols 100; ${line}`, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'pipe'] })
    : spawn(process.execPath, [bin, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  t.after(() => void child.kill('SIGKILL'))
  let text = ''
  const waiting = new Set<() => void>()
  const hear = (chunk: string) => {
    text += chunk
    for (const look of [...waiting]) look()
  }
  child.stdout.setEncoding('utf8').on('data', hear)
  child.stderr.setEncoding('utf8').on('data', hear)
  child.stdin.on('error', () => {})
  const ended = new Promise<number | null>((done) => child.once('close', done))
  return {
    child,
    text: () => text,
    said: (what) =>
      new Promise((done, fail) => {
        const look = () => {
          if (typeof what === 'string' ? !text.includes(what) : !what.test(text)) return
          waiting.delete(look)
          done()
        }
        waiting.add(look)
        void ended.then((code) => fail(new Error(`it ended with ${code} and never said ${what}:\n${text}`)))
        look()
      }),
    type: (words) => void child.stdin.write(words),
    ended,
  }
}

/** $CHAPERONE_HOME of somebody. */
export async function homeOf({ dir }: House, name: string, member: Member): Promise<{ readonly CHAPERONE_HOME: string }> {
  const home = join(dir, `home-${name}`)
  await openProfiles(home).save(member.profile, { use: true })
  return { CHAPERONE_HOME: home }
}
