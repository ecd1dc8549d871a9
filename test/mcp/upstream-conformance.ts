/**
 * npm run conformance:client [-- --requirements VERSION] [--json]
 *
 * The published suite in client mode: it plays MCP servers and authorization servers, and looks at what our upstream leg
 * sends them (upstream-client.ts). Exit 1 when a scenario fails.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { onDemand } from './on-demand.ts'
import { parseResults, type Results, totals } from './suite.ts'

const SUITE = '@modelcontextprotocol/conformance@0.2.0-alpha.12'
export const CLIENT_REQUIREMENTS = ['2025-11-25', '2026-07-28'] as const
export type ClientRequirements = (typeof CLIENT_REQUIREMENTS)[number]

export interface ClientRun {
  readonly requirements: ClientRequirements
  readonly results: Results
  /** failing scenarios */
  readonly failing: readonly string[]
  readonly output: string
}

/** All scenarios start at once; a small machine needs its time. */
const SCENARIO_MS = 180_000
const LONGEST_MS = 600_000

/** Throws NotInstalled where there is no registry to take the suite from. */
export async function runClientMode(requirements: ClientRequirements): Promise<ClientRun> {
  const output = await runClient(['--requirements', requirements])
  const results = new Map(parseResults(output))
  if (results.size === 0) throw new Error(`The suite printed no result for ${requirements}:\n${output.slice(-2000)}`)
  for (const name of failingIn(results)) {
    // All of them at once are more than a small machine does in time, and some measure time (sse-retry): once more, alone.
    const alone = await runClient(['--scenario', name, '--spec-version', requirements])
    const [, passed, failed] = /^Passed: (\d+)\/\d+, (\d+) failed/m.exec(alone) ?? []
    if (passed !== undefined) results.set(name, { passed: Number(passed), failed: Number(failed) })
  }
  return { requirements, results, failing: failingIn(results), output }
}

const failingIn = (results: Results): readonly string[] =>
  [...results].filter(([, { passed, failed }]) => failed > 0 || passed === 0).map(([name]) => name)

async function runClient(which: readonly string[]): Promise<string> {
  const suite = await onDemand(SUITE)
  const out = await mkdtemp(join(tmpdir(), 'conformance-client-'))
  const quoted = [process.execPath, fileURLToPath(new URL('./upstream-client.ts', import.meta.url))].map((part) => JSON.stringify(part)).join(' ')
  const args = ['client', '--command', quoted, ...which, '--timeout', String(SCENARIO_MS), '-o', out]
  const child = spawn(process.execPath, [suite.file('dist/index.js'), ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (chunk: string) => {
      output += chunk
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), LONGEST_MS)
  await new Promise<void>((done, fail) => {
    child.once('error', fail)
    child.once('close', () => done())
  }).finally(() => clearTimeout(timer))
  await rm(out, { recursive: true, force: true, maxRetries: 10 })
  return output
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { requirements: { type: 'string', multiple: true }, json: { type: 'boolean' } } })
  const wanted = CLIENT_REQUIREMENTS.filter((one) => values.requirements === undefined || values.requirements.includes(one))
  const runs: ClientRun[] = []
  for (const requirements of wanted) {
    const run = await runClientMode(requirements)
    runs.push(run)
    if (values.json) continue
    const { pass, fail } = totals(run.results)
    console.log(`upstream leg, ${requirements}: ${pass} passed, ${fail} failed, in ${run.results.size} scenarios`)
    for (const name of run.failing) console.log(`  FAILED: ${name} ${JSON.stringify(run.results.get(name))}`)
  }
  if (values.json) console.log(JSON.stringify({ runs: runs.map(({ output: _, results, ...run }) => ({ ...run, ...totals(results) })) }))
  process.exitCode = runs.some((run) => run.failing.length > 0) ? 1 : 0
}

if (import.meta.main) await main()
