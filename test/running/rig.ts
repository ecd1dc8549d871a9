import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Invitation } from '../../src/api/contract.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { enrol, type Person } from '../../src/demo/person.ts'
import { startFixture } from '../mcp/fixture/fixture.ts'
import { apply, governed } from '../parts/governed.ts'
import { ofFile } from '../parts/of-file.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

interface Test {
  after(work: () => unknown): void
}

/** A Chaperone with one MCP server, boris who may use it, and his agents `first` and `second`. */
export async function runningRig(t: Test, more = '', options: Parameters<typeof governed>[1] = {}) {
  const { dir, server, dana } = await governed(t, options)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(
    dana,
    `kind: mcp
name: fixture
spec: { url: "${fixture.url}" }
---
kind: role
name: caller
spec:
  allow:
    - { mcp: fixture, can: any }
---
kind: user
name: boris
spec: { roles: [caller] }
---
kind: agent
name: first
spec: { owner: boris, roles: [caller] }
---
kind: agent
name: second
spec: { owner: boris, roles: [caller] }
${more}`,
  )
  const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'boris' })
  const boris = await enrol('boris', invitation, join(dir, 'boris'))
  t.after(() => boris.api.close())
  const runs = join(dir, 'runtime')
  const work = join(dir, 'work')
  for (const folder of [runs, work]) await mkdir(folder, { mode: 0o700 })
  return {
    dir,
    server,
    dana,
    boris,
    fixture,
    work,
    token: async (name: string) => (await dana.api.call<Invitation>('POST', '/v1/invitations', { name })).invitation,
    home: async (name: string, profile: Person['profile']) => {
      const home = join(dir, `home-${name}`)
      await openProfiles(home).save(profile)
      return home
    },
  }
}

/** See {@link ofFile}. */
export const rigOfFile = (more = '') => ofFile((t) => runningRig(t, more))

export interface Ran {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  /** 128 and its number for a signal */
  readonly ended: Promise<number>
  /** Resolves when what is written to stdout matches. */
  says(pattern: RegExp): Promise<RegExpExecArray>
  /** The same of stderr. */
  complains(pattern: RegExp): Promise<RegExpExecArray>
}

/** `chaperone ARGS`, with an environment in which secrets stand that must go nowhere. */
export function start(
  t: Test,
  args: readonly string[],
  options: { readonly home: string; readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Ran {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: options.cwd,
    env: { PATH: process.env.PATH, HOME: '/nonexistent', LANG: 'C.UTF-8', NO_COLOR: '1', CHAPERONE_HOME: options.home, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  const waiting = new Set<() => void>()
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk
    for (const look of waiting) look()
  })
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk
    for (const look of waiting) look()
  })
  const ended = once(child, 'close').then(([code, signal]) => (code as number | null) ?? 128 + (signal === 'SIGKILL' ? 9 : 15))
  t.after(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    return ended
  })
  const until = (find: () => RegExpExecArray | null, pattern: RegExp) =>
    new Promise<RegExpExecArray>((done, fail) => {
      const look = () => {
        const found = find()
        if (found) done(found)
      }
      waiting.add(look)
      look()
      void ended.then((code) => fail(new Error(`it ended with ${code} before it said ${pattern}: ${out}\n${err}`)))
    })
  return {
    child,
    out: () => out,
    err: () => err,
    ended,
    says: (pattern) => until(() => pattern.exec(out), pattern),
    complains: (pattern) => until(() => pattern.exec(err), pattern),
  }
}
