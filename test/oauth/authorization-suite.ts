import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../src/demo/free-port.ts'
import { onDemand } from '../mcp/on-demand.ts'
import { CLAUDE, rig } from './rig.ts'

/** The same suite as in suite.ts, in the mode that looks at an authorization server. */
const SUITE = '@modelcontextprotocol/conformance@0.2.0-alpha.12'
const LONGEST_MS = 60_000

export interface Checked {
  readonly scenario: string
  readonly passed: number
  readonly failed: number
}

export interface AuthorizationOutcome {
  readonly scenarios: readonly Checked[]
  readonly output: string
}

/**
 * The published suite against a whole Chaperone: its metadata, and a sign-in with consent, whose person is a script. Throws
 * NotInstalled.
 */
export async function runAuthorizationSuite(): Promise<AuthorizationOutcome> {
  const suite = await onDemand(SUITE)
  const undo: (() => Promise<unknown> | unknown)[] = []
  try {
    const r = await rig({ after: (work) => void undo.push(work) })
    const dir = await mkdtemp(join(tmpdir(), 'authorization-suite-'))
    undo.push(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
    const authorities = join(dir, 'authorities.pem')
    await writeFile(authorities, await r.home.server.parts.ca.bundle('server'))
    const args = ['authorization', '--url', `https://${r.web}`, '--client-id', CLAUDE, '--resource', r.resource(), '-p', String(await freePort())]
    const child = spawn(process.execPath, [suite.file('dist/index.js'), ...args, '-o', join(dir, 'out')], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: authorities },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const browser = await r.browser('boris')
    let output = ''
    const opened = new Set<string>()
    const said = (chunk: string) => {
      output += chunk
      for (const [url] of output.matchAll(/https:\/\/[^\s"']+\/oauth\/authorize\?[^\s"']+(?=[\s"'])/g)) {
        if (opened.has(url)) continue
        opened.add(url)
        // What a person would do with the address that it prints.
        browser
          .agree({ query: url.slice(url.indexOf('?') + 1), verifier: '', state: '' })
          .then((back) => fetch(back, { redirect: 'manual' }))
          .catch((error: unknown) => {
            output += `\nThe person could not agree: ${error}\n`
            child.kill('SIGKILL')
          })
      }
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', said)
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), LONGEST_MS)
    await new Promise<void>((done, fail) => {
      child.once('error', fail)
      child.once('close', () => done())
    }).finally(() => clearTimeout(timer))
    const scenarios = [...output.matchAll(/^[✓✗] (\S+): (\d+) passed, (\d+) failed/gm)].map(([, scenario, passed, failed]) => ({
      scenario: scenario!,
      passed: Number(passed),
      failed: Number(failed),
    }))
    return { scenarios, output }
  } finally {
    for (const step of undo.reverse()) await step()
  }
}
