import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../src/client/profile.ts'
import { beginEnrolment } from '../src/client/sign-in.ts'
import { startServer } from '../src/server/start.ts'
import { fromBase32, stepAt, totpCode } from '../src/signin/totp.ts'

/**
 * Each file of test/transcripts/ is what somebody types and sees, in a folder of its own:
 *
 *   # a remark; the first line `# with a server` starts one, with `admin` signed in;
 *   `# with a server and fred`: in `fred`, another administrator is signed in as well
 *   $ chaperone whoami           a command for sh
 *   what stdout must say         `[..]` stands for any text in a line, a line `[...]` for any lines
 *   2> what stderr must say
 *   ? 4                          the exit code, when it is not 0
 *
 * CHAPERONE_UPDATE_TRANSCRIPTS=1 writes what was seen into those parts that differ.
 */
const folder = join(dirname(fileURLToPath(import.meta.url)), 'transcripts')
const script = join(dirname(folder), '..', 'bin', 'chaperone.js')
const update = process.env.CHAPERONE_UPDATE_TRANSCRIPTS === '1'

interface Step {
  readonly line: number
  readonly command: string
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  readonly exit: number
}

interface Seen {
  readonly stdout: string[]
  readonly stderr: string[]
  readonly exit: number
}

function parse(text: string): (Step | string)[] {
  const parts: (Step | string)[] = []
  let step: { line: number; command: string; stdout: string[]; stderr: string[]; exit: number } | undefined
  text
    .replace(/\n$/, '')
    .split('\n')
    .forEach((line, i) => {
      if (line.startsWith('$ ')) {
        step = { line: i + 1, command: line.slice(2), stdout: [], stderr: [], exit: 0 }
        parts.push(step)
      } else if (line.startsWith('# ') || !step) {
        parts.push(line)
        step = undefined
      } else if (line.startsWith('2> ') || line === '2>') step.stderr.push(line.slice(3))
      else if (/^\? \d+$/.test(line)) step.exit = Number(line.slice(2))
      else step.stdout.push(line)
    })
  // An empty line before the next command belongs to nobody.
  for (const part of parts) if (typeof part !== 'string') while ((part.stdout as string[]).at(-1) === '') (part.stdout as string[]).pop()
  return parts
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

function fits(expected: readonly string[], seen: readonly string[]): boolean {
  const pattern = expected.map((line) => (line === '[...]' ? '(?:[^\n]*\n)*' : `${escaped(line).replaceAll('\\[\\.\\.\\]', '[^\n]*')}\n`)).join('')
  return new RegExp(`^${pattern}$`).test(seen.map((line) => `${line}\n`).join(''))
}

function run(command: string, cwd: string, env: NodeJS.ProcessEnv): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', command], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (chunk) => (stdout += chunk))
    child.stderr.on('data', (chunk) => (stderr += chunk))
    child.on('error', reject)
    const lines = (text: string) =>
      text === ''
        ? []
        : text
            .replace(/\n+$/, '')
            .split('\n')
            .map((line) => line.trimEnd())
    child.on('close', (code) => resolve({ stdout: lines(stdout), stderr: lines(stderr), exit: code ?? -1 }))
  })
}

const shown = (step: Step) =>
  [`$ ${step.command}`, ...step.stdout, ...step.stderr.map((line) => `2> ${line}`.trimEnd()), ...(step.exit === 0 ? [] : [`? ${step.exit}`])].join(
    '\n',
  )

async function enrol(invitation: string, folder: string): Promise<void> {
  const enrolment = await beginEnrolment(invitation)
  const code = totpCode(fromBase32(enrolment.offer.totp.secret)!, stepAt(Date.now()))
  await openProfiles(folder).save(await enrolment.finish(code), { use: true })
  enrolment.close()
}

async function play(file: string): Promise<void> {
  const text = await readFile(join(folder, file), 'utf8')
  const home = await mkdtemp(join(tmpdir(), 'transcript-'))
  const undo: (() => Promise<unknown>)[] = [() => rm(home, { recursive: true, force: true, maxRetries: 10 })]
  try {
    const bin = join(home, '.bin')
    await mkdir(bin)
    await writeFile(join(bin, 'chaperone'), `#!/bin/sh\nexec '${process.execPath}' '${script}' "$@"\n`)
    await chmod(join(bin, 'chaperone'), 0o755)
    const env: NodeJS.ProcessEnv = {
      PATH: `${bin}:${process.env.PATH}`,
      HOME: home,
      CHAPERONE_HOME: join(home, '.chaperone'),
      NO_COLOR: '1',
      LANG: 'C.UTF-8',
      DATA: join(home, '.data'),
      DOCS: join(folder, '..', '..', 'docs'),
    }
    if (process.env.NODE_COMPILE_CACHE) env.NODE_COMPILE_CACHE = process.env.NODE_COMPILE_CACHE
    if (text.startsWith('# with a server')) {
      const any = '127.0.0.1:0'
      const server = await startServer({ dataDir: env.DATA!, listen: any, webListen: any, postgresListen: any, logLevel: 'silent' })
      undo.unshift(() => server.stop())
      await enrol(server.invitation!.line, env.CHAPERONE_HOME!)
      if (text.startsWith('# with a server and fred')) {
        await writeFile(join(bin, 'fred.yaml'), 'kind: user\nname: fred\nspec: { roles: [admin] }\n')
        const { stdout } = await run('chaperone apply -f .bin/fred.yaml >&2 && chaperone invite fred', home, env)
        await enrol(stdout[0]!.split("'")[1]!, join(home, 'fred'))
      }
    }
    const played: string[] = []
    const wrong: string[] = []
    for (const part of parse(text)) {
      if (typeof part === 'string') {
        played.push(part)
        continue
      }
      const seen = await run(part.command, home, env)
      const right = seen.exit === part.exit && fits(part.stdout, seen.stdout) && fits(part.stderr, seen.stderr)
      played.push(right ? shown(part) : shown({ ...part, ...seen }), '')
      if (!right) wrong.push(`${file}:${part.line}\n--- expected\n${shown(part)}\n--- seen\n${shown({ ...part, ...seen })}`)
    }
    if (update && wrong.length > 0) await writeFile(join(folder, file), `${played.join('\n').replace(/\n+$/, '')}\n`)
    else assert.equal(wrong.length, 0, `\n${wrong.join('\n\n')}`)
  } finally {
    for (const step of undo) await step()
  }
}

// Two at a time, as there are cores: each is dozens of processes one after the other, and waits for all that run beside it.
describe('what people type and see', { concurrency: 2 }, async () => {
  for (const file of (await readdir(folder)).filter((name) => name.endsWith('.txt')).sort())
    test(`transcript ${file}`, { timeout: 900_000 }, () => play(file))
})
