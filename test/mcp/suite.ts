import { spawn } from 'node:child_process'
import { readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onDemand } from './on-demand.ts'

/** The published suite, `@modelcontextprotocol/conformance`: the new version by frozen requirement sets, the old one by its active suite. */
export const REQUIREMENTS = ['2025-11-25', '2026-07-28', '0.1.16-active'] as const
export type Requirements = (typeof REQUIREMENTS)[number]

const NEW = '@modelcontextprotocol/conformance@0.2.0-alpha.12'
const OLD = '@modelcontextprotocol/conformance@0.1.16'
const LONGEST_MS = 240_000

export interface Scenario {
  readonly passed: number
  readonly failed: number
}

/** By the name of the scenario, in the suite's order. */
export type Results = ReadonlyMap<string, Scenario>

/** Lines such as `✓ ping: 2 passed, 0 failed`; what a scenario is called is unique in one run. */
export function parseResults(output: string): Results {
  const results = new Map<string, Scenario>()
  for (const [, name, passed, failed] of output.matchAll(/^[✓✗] (\S+): (\d+) passed, (\d+) failed/gm)) {
    results.set(name!, { passed: Number(passed), failed: Number(failed) })
  }
  return results
}

export interface Outcome {
  readonly results: Results
  /** by the name of the scenario: what its failed checks say */
  readonly complaints: ReadonlyMap<string, readonly string[]>
  readonly output: string
}

export async function runSuite(url: string, requirements: Requirements): Promise<Outcome> {
  const old = requirements === '0.1.16-active'
  const suite = await onDemand(old ? OLD : NEW)
  const out = join(tmpdir(), `conformance-${process.pid}-${Date.now()}`)
  const what = old ? ['--suite', 'active'] : ['--requirements', requirements]
  const child = spawn(process.execPath, [suite.file('dist/index.js'), 'server', '--url', url, '-o', out, ...what], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
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
  const complaints = await complaintsIn(out)
  await rm(out, { recursive: true, force: true, maxRetries: 10 })
  const results = parseResults(output)
  if (results.size === 0) throw new Error(`The suite printed no result for ${requirements}:\n${output.slice(-2000)}`)
  return { results, complaints, output }
}

/** From `server-<scenario>-<time>/checks.json`. */
async function complaintsIn(dir: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const all = new Map<string, readonly string[]>()
  for (const folder of await readdir(dir).catch(() => [])) {
    const scenario = /^server-(.*)-\d{4}-\d\d-\d\dT/.exec(folder)?.[1]
    if (scenario === undefined) continue
    // A scenario that died wrote none.
    const written = await readFile(join(dir, folder, 'checks.json'), 'utf8').catch(() => '[]')
    const checks = JSON.parse(written) as {
      readonly id: string
      readonly status: string
      readonly errorMessage?: string
    }[]
    const bad = checks.filter(({ status }) => status === 'FAILURE' || status === 'WARNING')
    if (bad.length > 0)
      all.set(
        scenario,
        bad.map(({ id, status, errorMessage }) => `${status} ${id}: ${errorMessage ?? ''}`),
      )
  }
  return all
}

export interface Difference {
  readonly scenario: string
  readonly direct: string
  readonly through: string
  /** what the suite says of it */
  readonly why: readonly string[]
}

const line = (one: Scenario | undefined) => (one === undefined ? 'absent' : `${one.passed} passed, ${one.failed} failed`)

/** Where the lines differ; counts as well as ticks, because a scenario can tick with nothing checked. */
export function compare(direct: Results, through: Results, complaints: Outcome['complaints']): readonly Difference[] {
  const names = new Set([...direct.keys(), ...through.keys()])
  return [...names]
    .map((scenario) => ({
      scenario,
      direct: line(direct.get(scenario)),
      through: line(through.get(scenario)),
      why: complaints.get(scenario) ?? [],
    }))
    .filter((one) => one.direct !== one.through)
}

export function totals(results: Results): { readonly pass: number; readonly fail: number } {
  const all = [...results.values()]
  return { pass: all.reduce((sum, { passed }) => sum + passed, 0), fail: all.reduce((sum, { failed }) => sum + failed, 0) }
}
