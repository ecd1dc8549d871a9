import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { PolicyDocuments } from './compile.ts'
import { type Decision, EFFECTS, type GrantedRole, type Limits, type Link } from './types.ts'
import { type Call, identityOf } from './vocabulary.fixture.ts'

/** Few names, so that rules and calls meet often. */
export const server = fc.constantFrom('files', 'data')
export const tool = fc.constantFrom('read', 'write', 'drop')
export const selector = fc.oneof(
  server,
  fc.constant('any'),
  fc.constant('f*'),
  fc.constant([]),
  fc.constant({ labels: { env: 'prod' } }),
  fc.constant('{{identity.traits.home}}'),
)
const conditions = {
  tools: fc.oneof(tool, fc.constant('any'), fc.array(tool, { maxLength: 2 }), fc.constant('*r*')),
  args: fc.option(fc.constantFrom({ n: { max: 5 } }, { path: { under: '/a' } }, { n: 3 }, { path: 'any' }), { nil: undefined }),
  // The third fails whenever `n` is missing or a text, the fourth gives no boolean.
  where: fc.option(fc.constantFrom('identity.name == "a"', 'has(args.n)', 'args.n > 2', 'args.n'), { nil: undefined }),
}
const binding = {
  max_rows: fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }),
  mask: fc.option(fc.subarray(['x', 'y', 'z']), { nil: undefined }),
}

const clean = (rule: object) => Object.fromEntries(Object.entries(rule).filter(([, value]) => value !== undefined))
export const granting = fc.record({ tool: selector, ...conditions, ...binding }).map(clean)
export const denying = fc.record({ tool: selector, ...conditions }).map(clean)
export const limiting = fc
  .record({ tool: selector, ...conditions, ...binding })
  .map(clean)
  .map((rule) => ({ max_rows: 4, ...rule }))

const rules = (rule: fc.Arbitrary<object>) => fc.array(rule, { maxLength: 3 })
const when = fc.option(
  fc.constantFrom(
    { days: 'mon-fri', hours: '08:00-18:00', zone: 'UTC' },
    { days: 'sat', zone: 'UTC' },
    { hours: '22:00-06:00', zone: 'Europe/Berlin' },
  ),
  { nil: undefined },
)
const role = fc.record({ allow: rules(granting), ask: rules(granting), deny: rules(denying), when }).map(clean)
export const guardrail = fc
  .record({
    for: fc.option(fc.constantFrom({ kind: 'agent' }, { roles: ['r0'] }, { names: 'a' }), { nil: undefined }),
    deny: rules(denying),
    ask: rules(granting),
    limit: rules(limiting),
  })
  .map(clean)

export const documents: fc.Arbitrary<PolicyDocuments> = fc.record({
  roles: fc.array(role, { minLength: 1, maxLength: 3 }).map((specs) => specs.map((spec, i) => ({ name: `r${i}`, spec }))),
  guardrails: fc.array(guardrail, { maxLength: 2 }).map((specs) => specs.map((spec, i) => ({ name: `g${i}`, spec }))),
})

/** What a delegation may leave over. The last `where` fails for most calls. */
export const limits: fc.Arbitrary<Limits> = fc.record(
  {
    roles: fc.subarray(['r0', 'r1', 'r2']),
    resources: fc.subarray(['tool/files', 'tool/d*', 'door/*', '*']),
    tools: fc.subarray(['files/read', 'files/*r*', '*/write', 'data/*']),
    effects: fc.subarray([...EFFECTS]),
    where: fc.constantFrom('identity.name == "a"', 'resource.name == "files"', '!has(args.n)', 'args.n > 2'),
  },
  { requiredKeys: [] },
)

export const link: fc.Arbitrary<Link> = fc
  .record({
    name: fc.constantFrom('a', 'b'),
    kind: fc.constantFrom('user' as const, 'agent' as const),
    roles: fc.subarray(['r0', 'r1', 'r2', 'missing']),
    home: fc.option(server, { nil: undefined }),
    limits: fc.option(limits, { nil: undefined }),
  })
  .map(({ name, kind, roles, home, limits }) => ({
    identity: identityOf(name, { kind, roles, traits: home === undefined ? {} : { home } }),
    ...(limits === undefined ? {} : { limits }),
  }))

export const grant: fc.Arbitrary<GrantedRole> = fc.record(
  {
    role: fc.constantFrom('r0', 'r1', 'r2', 'missing'),
    request: fc.constantFrom('req_1', 'req_2'),
    resourceId: fc.constantFrom('res_files', 'res_data'),
    // Over on the Monday, in the night before the Saturday, and never within these tests.
    until: fc.constantFrom(Date.UTC(2026, 10, 23, 9), Date.UTC(2026, 10, 28), Date.UTC(2026, 11, 1)),
  },
  { requiredKeys: ['role', 'request', 'until'] },
)
export const granted = (chain: readonly Link[], at: number, more: readonly GrantedRole[]): readonly Link[] =>
  chain.map((each, i) => (i === at % chain.length ? { ...each, grants: [...(each.grants ?? []), ...more] } : each))

const value = fc.constantFrom(1, 3, 7, 'text', '/a/b', '../a', null, ['/a', '/b'])
export const call: fc.Arbitrary<Call> = fc.record({
  tool,
  on: server,
  labels: fc.constantFrom<Record<string, string>[]>({}, { env: 'prod' }),
  args: fc.dictionary(fc.constantFrom('n', 'path'), value, { maxKeys: 2 }),
  lossy: fc.constantFrom<string[][]>([], ['/n']),
})
/** In the hours, at night, and on a Saturday. */
export const now = fc.constantFrom(Date.UTC(2026, 10, 23, 9), Date.UTC(2026, 10, 23, 23), Date.UTC(2026, 10, 28, 12))
export const links = fc.array(link, { minLength: 1, maxLength: 3 })

export const TIGHTNESS = { allow: 0, ask: 1, deny: 2 }
export const runs = { numRuns: 600 }

/** Verdict, and where both go on also obligations: no field gone, no cap higher, no mask shorter, no longer life. */
export function assertNotLooser(tight: Decision, loose: Decision): void {
  assert.ok(TIGHTNESS[tight.verdict] >= TIGHTNESS[loose.verdict], `${loose.verdict} became ${tight.verdict}`)
  if (tight.verdict !== loose.verdict || tight.verdict === 'deny') return
  for (const [key, demand] of Object.entries(loose.obligations)) {
    const kept = tight.obligations[key]
    if (typeof demand === 'number') assert.ok((kept as number) <= demand)
    else assert.ok((demand as string[]).every((column) => (kept as string[]).includes(column)))
  }
  assert.ok((tight.until ?? Infinity) <= (loose.until ?? Infinity))
}
