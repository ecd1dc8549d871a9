import { fileURLToPath } from 'node:url'
import { startFixture } from './fixture/fixture.ts'
import type { Difference, Requirements, Results } from './suite.ts'
import { EVERYTHING, openThrough, type Through } from './through.ts'

export const ONLY = ['http', 'stdio', 'sse', 'translated', 'deny'] as const
export type Only = (typeof ONLY)[number]

/** One server behind Chaperone, and the client's era by the requirements. */
export interface Pair {
  readonly only: Only
  /** what the result is called */
  readonly upstream: string
  /** name of the server's document */
  readonly server: string
}

/** Which servers a client of these requirements is run against. */
export function pairsFor(requirements: Requirements): readonly Pair[] {
  const other = requirements === '2026-07-28' ? 'legacy' : 'modern'
  const own: readonly Pair[] = [
    { only: 'http', upstream: 'http', server: 'fixture-http' },
    { only: 'stdio', upstream: 'stdio', server: 'fixture-stdio' },
  ]
  // HTTP+SSE is older than the stateless era.
  const sse: Pair =
    other === 'legacy'
      ? { only: 'translated', upstream: 'sse, legacy', server: 'fixture-sse' }
      : { only: 'sse', upstream: 'sse', server: 'fixture-sse' }
  if (requirements === '0.1.16-active') return [...own, sse]
  return [
    ...own,
    sse,
    { only: 'deny', upstream: 'http, one denied', server: 'fixture-http' },
    { only: 'translated', upstream: `http, ${other}`, server: `fixture-http-${other}` },
    { only: 'translated', upstream: `stdio, ${other}`, server: `fixture-stdio-${other}` },
  ]
}

export const DENIED = { tool: 'test_image_content', scenario: 'tools-call-image' } as const

/** The scenario of the denied tool must fail, and every other line must stay. */
export function oneFlipped(differences: readonly Difference[], results: Results): readonly Difference[] {
  const others = differences.filter(({ scenario }) => scenario !== DENIED.scenario)
  const flipped = (results.get(DENIED.scenario)?.failed ?? 0) > 0
  return flipped ? others : [...others, { scenario: DENIED.scenario, direct: 'must fail when denied', through: 'did not', why: [] }]
}

export interface Fixtures {
  /** of both eras over HTTP: what everything is compared with */
  readonly direct: string
  readonly chaperone: Through
  /** With the one tool denied, or with everything allowed again. */
  deny(on: boolean): Promise<void>
  close(): Promise<void>
}

const program = fileURLToPath(new URL('./fixture/main.ts', import.meta.url))

/** Every fixture, and a Chaperone before them. */
export async function openFixtures(): Promise<Fixtures> {
  const open = {
    http: await startFixture({ era: 'both' }),
    'http-legacy': await startFixture({ era: 'legacy' }),
    'http-modern': await startFixture({ era: 'modern' }),
    sse: await startFixture({ transport: 'sse' }),
  }
  const document = (name: string, spec: unknown) => `---\nkind: mcp\nname: fixture-${name}\nspec: ${JSON.stringify(spec)}\n`
  const stdio = (name: string, era: string) =>
    // The fixture lies in this checkout, which another user may not be able to read.
    document(name, { command: [process.execPath, program, '--stdio', '--era', era], isolation: 'none' })
  const servers = [
    ...Object.entries(open).map(([name, { url }]) => document(name, { url })),
    stdio('stdio', 'both'),
    stdio('stdio-legacy', 'legacy'),
    stdio('stdio-modern', 'modern'),
  ]
  const chaperone = await openThrough(EVERYTHING + servers.join(''))
  const rule = `  deny:\n    - { mcp: fixture-http, tools: ${DENIED.tool} }\n`
  return {
    direct: open.http.url,
    chaperone,
    deny: (on) => chaperone.apply(on ? EVERYTHING.replace('  allow:', `${rule}  allow:`) : EVERYTHING),
    async close() {
      await chaperone.close()
      for (const one of Object.values(open)) await one.close()
    },
  }
}
