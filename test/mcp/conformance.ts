/**
 * npm run conformance [-- --quick] [--only http|stdio|sse|translated|deny|authorization] [--requirements VERSION] [--json] [--verbose]
 *
 * Runs the published conformance suite against our own fixture server, directly and through a whole Chaperone that allows
 * everything, and compares what it says of each scenario. Then the same suite looks at our authorization server. Exit 1 when there is a difference, 2 when it could not run.
 */
import { parseArgs } from 'node:util'
import { runAuthorizationSuite } from '../oauth/authorization-suite.ts'
import { NotInstalled } from './on-demand.ts'
import { type Fixtures, ONLY, type Only, oneFlipped, openFixtures, type Pair, pairsFor } from './pairs.ts'
import { compare, type Difference, type Outcome, REQUIREMENTS, type Requirements, type Results, runSuite, totals } from './suite.ts'
import { comparable, type Exceptions, exceptionsFor, reasonsOf, unforeseen } from './translatable.ts'

interface Run {
  readonly upstream: string
  readonly requirements: Requirements
  readonly direct: { readonly pass: number; readonly fail: number }
  readonly through: { readonly pass: number; readonly fail: number }
  readonly differences: readonly Difference[]
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    requirements: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
})
const oneOf = <T extends string>(known: readonly T[], given: readonly string[] | undefined): readonly T[] => {
  const wrong = given?.find((one) => !known.includes(one as T))
  if (wrong !== undefined) throw new Error(`${wrong} is none of ${known.join(', ')}`)
  return (given as T[] | undefined) ?? known
}
// --quick: what CI has time for, both requirement sets over both transports.
const all = [...ONLY, 'authorization'] as const
const asked = values.quick && !values.only ? (['http', 'stdio', 'authorization'] as const) : oneOf(all, values.only)
const only: readonly Only[] = asked.filter((one) => one !== 'authorization')
const requirements = values.quick && !values.requirements ? (['2025-11-25', '2026-07-28'] as const) : oneOf(REQUIREMENTS, values.requirements)

const MOST_SHOWN = 8
const MOST_CHARACTERS = 300
const say = (text: string) => {
  if (!values.json) console.log(text)
}

async function main(): Promise<boolean> {
  const authorized = !asked.includes('authorization') || (await authorization())
  if (only.length === 0) return authorized
  return (await transparent()) && authorized
}

/** The suite's look at an authorization server: ours, with a script for a person. */
async function authorization(): Promise<boolean> {
  const { scenarios, output } = await runAuthorizationSuite()
  if (values.verbose) say(output)
  for (const { scenario, passed, failed } of scenarios) say(`authorization    ${scenario} ${passed}/${failed}`)
  const bad = scenarios.length < 2 || scenarios.some(({ failed }) => failed > 0)
  if (bad) say(output.slice(-2000))
  return !bad
}

async function transparent(): Promise<boolean> {
  const fixtures = await openFixtures()
  const runs: Run[] = []
  try {
    for (const version of requirements) {
      const pairs = pairsFor(version).filter((pair) => only.includes(pair.only))
      if (pairs.length === 0) continue
      const { results: direct } = await suite(fixtures.direct, version)
      if (totals(direct).fail > 0) throw new Error(`The fixture itself fails ${version}: ${JSON.stringify(totals(direct))}`)
      for (const pair of pairs) {
        const run = await through(fixtures, pair, version, direct)
        show(run)
        runs.push(run)
      }
    }
  } finally {
    await fixtures.close()
  }
  if (values.json) console.log(JSON.stringify({ runs }))
  const different = runs.filter((one) => one.differences.length > 0).length
  say(different === 0 ? `No differences in ${runs.length} runs.` : `${different} of ${runs.length} runs differ.`)
  return different === 0 && runs.length > 0
}

async function suite(url: string, version: Requirements): Promise<Outcome> {
  const outcome = await runSuite(url, version)
  if (values.verbose) say(outcome.output)
  return outcome
}

async function through({ chaperone, deny }: Fixtures, pair: Pair, version: Requirements, direct: Results): Promise<Run> {
  const { upstream } = pair
  const endpoint = await chaperone.open(pair.server)
  if (pair.only === 'deny') await deny(true)
  const outcome = await suite(endpoint.url, version)
  if (pair.only === 'deny') await deny(false)
  await endpoint.close()
  if (pair.only === 'deny') {
    const differences = oneFlipped(compare(direct, outcome.results, outcome.complaints), outcome.results)
    return { upstream, requirements: version, direct: totals(direct), through: totals(outcome.results), differences }
  }
  const { results, complaints } = outcome
  const isTranslated = pair.only === 'translated'
  const wanted = isTranslated ? comparable(direct, version) : direct
  const got = isTranslated ? comparable(results, version) : results
  const exceptions: Exceptions = exceptionsFor(pair.only, version)
  if (isTranslated) {
    for (const [name, why] of Object.entries(reasonsOf(version))) {
      const { passed, failed } = results.get(name) ?? { passed: 0, failed: 0 }
      say(`  not compared: ${name} ${passed}/${failed} (${why})`)
    }
  }
  for (const [name, { line, why }] of Object.entries(exceptions)) say(`  expected: ${name} ${line} (${why})`)
  const differences = unforeseen(compare(wanted, got, complaints), exceptions)
  return { upstream, requirements: version, direct: totals(wanted), through: totals(got), differences }
}

function show({ upstream, requirements: version, direct, through: got, differences }: Run): void {
  say(`${upstream.padEnd(16)} ${version.padEnd(14)} direct ${direct.pass}/${direct.fail}, through ${got.pass}/${got.fail}`)
  for (const one of differences.slice(0, MOST_SHOWN)) {
    say(`  DIFFERENT ${one.scenario}: direct ${one.direct}; through ${one.through}`)
    for (const why of one.why) say(`    ${why.slice(0, MOST_CHARACTERS)}`)
  }
  const more = differences.slice(MOST_SHOWN).map(({ scenario }) => scenario)
  if (more.length > 0) say(`  and ${more.length} more (--json lists all): ${more.join(', ')}`)
}

try {
  process.exitCode = (await main()) ? 0 : 1
} catch (error) {
  // Without a registry there is no suite: that is said, and is no success.
  console.error(error instanceof NotInstalled ? error.message : error)
  process.exitCode = 2
}
