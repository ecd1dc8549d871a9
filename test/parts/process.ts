import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

/** A folder of its own, gone when the test is. A test's hooks run in the order in which they were made: what writes there may still do so, hence the tries. */
export async function folder(test: { after(work: () => Promise<void>): void }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-test-'))
  test.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  return dir
}

export interface Up {
  readonly child: ChildProcess
  readonly addresses: { readonly data: string; readonly web: string; readonly postgres: string }
  readonly invitation: string | undefined
  readonly text: () => string
  kill(signal: NodeJS.Signals): Promise<number | null>
}

/** The arguments of `chaperone up` on free ports. */
export const upOn = (dataDir: string, ...flags: readonly string[]): readonly string[] => [
  'up',
  '--data-dir',
  dataDir,
  ...['--listen', '--web-listen', '--postgres-listen'].flatMap((flag) => [flag, '127.0.0.1:0']),
  ...flags,
]

/** `chaperone up` as a process of its own, ready, on a store in which nobody has enrolled yet: it prints an invitation. Ends with the test. */
export async function up(test: { after(work: () => Promise<void>): void }, dataDir: string, flags: readonly string[] = []): Promise<Up> {
  const child = spawn(process.execPath, [bin, ...upOn(dataDir, '--log-level', 'error', ...flags)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    errors += chunk
  })
  const ready = new Promise<void>((done, fail) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (/PostgreSQL +\S+:\d+\n/.test(text) && /chaperone login '\S+'\n/.test(text)) done()
    })
    child.once('exit', (code) => fail(new Error(`chaperone up ended with ${code}: ${errors}${text}`)))
  })
  const ended = once(child, 'exit')
  const kill = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await ended
    return child.exitCode
  }
  test.after(async () => {
    await kill('SIGKILL')
  })
  await ready
  const address = (name: string) => new RegExp(`${name} +(\\S+:\\d+)`).exec(text)?.[1] ?? ''
  return {
    child,
    addresses: { data: address('mTLS \\(CLI, agents\\)'), web: address('  web'), postgres: address('PostgreSQL') },
    invitation: /chaperone:\/\/\S+?(?=')/.exec(text)?.[0],
    text: () => text + errors,
    kill,
  }
}

/** Runs the CLI to its end. */
export async function chaperone(
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string; readonly cwd?: string } = {},
): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }> {
  const child = spawn(process.execPath, [bin, ...args], {
    env: { PATH: process.env.PATH, HOME: '/nonexistent', NO_COLOR: '1', ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk
  })
  // One that ends without reading is told by its code.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}
