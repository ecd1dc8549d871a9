import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compilePolicy } from './compile.ts'
import { automatic, entriesFor, entryFor } from './entries.ts'
import { checkRole, type RoleSpec } from './role.ts'
import { sessionLimitsOf } from './session-limits.ts'
import type { Link, Resource } from './types.ts'
import { identityOf, MONDAY_10, vocabularies } from './vocabulary.fixture.ts'

const HOUR = 3_600_000
const policyOf = (roles: Readonly<Record<string, unknown>>) =>
  compilePolicy({ roles: Object.entries(roles).map(([name, spec]) => ({ name, spec })), guardrails: [] }, vocabularies)
const faults = (spec: unknown) => {
  const checked = checkRole(spec, vocabularies)
  return checked.ok ? [] : checked.problems.map(({ path, message }) => `${path.join('.')}: ${message}`)
}
const way = (entry: object) => faults({ request: [{ role: 'x', ...entry }] })
const link = (name: string, roles: readonly string[], more: Partial<Link> = {}): Link => ({ identity: identityOf(name, { roles }), ...more })
const files: Resource = { kind: 'tool', id: 'res_files', name: 'files', labels: { env: 'dev' } }

const policy = policyOf({
  base: {
    request: [
      { role: 'writer', max: '30m' },
      { role: 'writer', max: '4h', resources: 'named', start_in: '1d' },
      {
        role: 'root',
        max: '1h',
        break_glass: true,
        approvers: { role: 'lead', count: 2 },
        escalate: { after: '10m', approvers: { users: ['dana'] } },
      },
      { role: 'gone' },
    ],
  },
  day: { when: { hours: '08:00-18:00', zone: 'UTC' }, request: [{ role: 'root' }] },
  writer: { request: [{ role: 'root' }] },
  root: {},
})

test('an entry says for how long, of what, and on whose yes', () => {
  const [writer, named, root, ...more] = entriesFor(policy, link('kim', ['base']), MONDAY_10)
  assert.deepEqual([writer?.maxMs, writer?.named, writer?.breakGlass, writer?.startInMs], [HOUR / 2, false, false, undefined])
  assert.deepEqual([named?.maxMs, named?.named, named?.startInMs], [4 * HOUR, true, 24 * HOUR])
  assert.deepEqual(
    [root?.breakGlass, root?.approvers, root?.escalate],
    [true, { role: 'lead', count: 2 }, { afterMs: HOUR / 6, approvers: { users: ['dana'] } }],
  )
  // `gone` is no role.
  assert.deepEqual(more, [])
  assert.equal(entriesFor(policy, link('kim', ['day']), MONDAY_10)[0]?.maxMs, 8 * HOUR)
})

test('rule 7: what may be asked for comes from own roles that count, and no further than the delegation', () => {
  const names = (who: Link, now = MONDAY_10) => entriesFor(policy, who, now).map(({ role }) => role)
  assert.deepEqual(names(link('kim', [])), [])
  assert.deepEqual(names(link('kim', [], { grants: [{ role: 'writer', request: 'req_1', until: MONDAY_10 + HOUR }] })), [])
  assert.deepEqual(names(link('kim', ['base', 'writer'], { limits: { roles: ['writer'] } })), [])
  assert.deepEqual(names(link('kim', ['base'], { limits: { roles: ['base', 'root'] } })), ['root'])
  assert.deepEqual(names(link('kim', ['day']), MONDAY_10 + 12 * HOUR), [])
})

test('rule 7: who acts asks by its own roles, never by those of the link above', () => {
  const boris = link('boris', ['base'])
  const bot = link('bot', ['day'])
  assert.equal(entryFor(policy, [boris, bot], { role: 'writer', now: MONDAY_10 }), undefined)
  assert.equal(entryFor(policy, [bot, boris], { role: 'writer', now: MONDAY_10 })?.link, boris)
  assert.equal(entryFor(policy, [], { role: 'writer', now: MONDAY_10 }), undefined)
})

test('of several entries the one that fits the wish is taken', () => {
  const of = (wish: object) => entryFor(policy, [link('kim', ['base', 'day'])], { role: 'writer', now: MONDAY_10, ...wish })?.entry.maxMs
  assert.equal(of({}), HOUR / 2)
  assert.equal(of({ forMs: HOUR, resource: files }), 4 * HOUR)
  // Nothing fits: the first is given, to say what does not.
  assert.equal(of({ forMs: HOUR }), HOUR / 2)
  assert.equal(of({ forMs: 9 * HOUR, resource: files }), HOUR / 2)
  assert.equal(of({ role: 'root', forMs: 2 * HOUR }), 8 * HOUR)
  assert.equal(of({ role: 'root', forMs: HOUR, breakGlass: true }), HOUR)
})

test('automatic answers: refuse stands above approve, and what fails approves nothing', () => {
  const answer = (automaticRules: unknown, more: { forMs?: number; reason?: string; resource?: Resource; now?: number } = {}) => {
    const one = policyOf({ base: { request: [{ role: 'writer', automatic: automaticRules }] }, writer: {} })
    const who = link('kim', ['base'])
    const [entry] = entriesFor(one, who, MONDAY_10)
    const session = { id: 'ses_1', startedAt: MONDAY_10, how: 'login' }
    return automatic(entry!, { identity: who.identity, session, now: MONDAY_10, forMs: HOUR, reason: 'OPS-1', ...more })
  }
  assert.equal(answer([]), undefined)
  assert.equal(answer([{ approve: { up_to: '1h' } }]), 'approve')
  assert.equal(answer([{ approve: { up_to: '1h' } }], { forMs: HOUR + 1 }), undefined)
  assert.equal(answer([{ refuse: { over: '1h' } }], { forMs: HOUR + 1 }), 'refuse')
  assert.equal(answer([{ refuse: { over: '1h' } }]), undefined)
  assert.equal(answer([{ approve: { up_to: '2h' } }, { refuse: { where: 'identity.name == "kim"' } }]), 'refuse')
  assert.equal(answer([{ approve: { where: 'args.role == "writer" && args.seconds <= 3600 && args.reason.startsWith("OPS-")' } }]), 'approve')
  assert.equal(answer([{ approve: { where: 'args.seconds < 3600' } }]), undefined)
  assert.equal(answer([{ approve: { where: 'has(args.resource) && args.resource.labels.env == "dev"' } }], { resource: files }), 'approve')
  const byLabel = 'args.resource.labels.env == "dev"'
  assert.equal(answer([{ approve: { where: byLabel } }]), undefined, 'it fails without a resource: approves nothing')
  assert.equal(answer([{ refuse: { where: byLabel } }]), 'refuse', 'it fails without a resource: refuses')
  const day = { hours: '08:00-10:00', zone: 'UTC' }
  assert.equal(answer([{ approve: { when: day, up_to: '1h' } }]), 'approve')
  assert.equal(answer([{ approve: { when: day, up_to: '1h' } }], { now: MONDAY_10 + 2 * HOUR }), undefined)
})

test('entries that could not work, or would say more than they look, are faults', () => {
  assert.deepEqual(way({ automatic: [{ approve: {} }] }), ['request.0.automatic.0.approve: This automatic approve has no condition.'])
  assert.match(way({ automatic: [{ refuse: { up_to: '1h' } }] })[0] ?? '', /Unknown key `up_to`/)
  assert.match(way({ automatic: [{ approve: { where: 'resource.name == "x"' } }] })[0] ?? '', /`where` of a request has no `resource`/)
  assert.match(way({ automatic: [{ approve: { when: { days: 'noday', zone: 'UTC' } } }] })[0] ?? '', /is not a day/)
  assert.match(way({ reason: { pattern: '(' } })[0] ?? '', /request\.0\.reason: .*not a pattern for reasons/)
  assert.match(way({ approvers: 'owner', break_glass: true })[0] ?? '', /reviewed by somebody else/)
  assert.match(way({ approvers: {} })[0] ?? '', /names nobody/)
  assert.match(way({ approvers: { users: ['dana', 'dana'], count: 2 } })[0] ?? '', /more people than it names/)
  assert.match(way({ escalate: { after: '1h', approvers: 'owner' } })[0] ?? '', /request\.0\.escalate/)
  assert.match(way({ max: '0s' })[0] ?? '', /not a duration/)
  assert.deepEqual(way({ approvers: { all: [{ role: 'a' }, { users: ['b'], count: 1 }] }, reason: { pattern: 'OPS-\\d+' }, start_in: '2h' }), [])
})

test('sessions: of several roles the smallest and the shortest hold, whatever a delegation leaves out', () => {
  const spec: RoleSpec = { sessions: { concurrent: 3, idle: '1h' } }
  const two = policyOf({ a: spec, b: { sessions: { concurrent: 5, idle: '30m', longest: '8h' } }, c: {} })
  assert.deepEqual(sessionLimitsOf(two, { roles: ['a', 'b', 'c', 'gone'] }), { concurrent: 3, idleMs: HOUR / 2, longestMs: 8 * HOUR })
  assert.deepEqual(sessionLimitsOf(two, { roles: ['c'] }), {})
  assert.match(
    faults({ sessions: { idle: 'long', concurent: 1 } }).join('\n'),
    /sessions\.idle: "long" is not a duration[\s\S]*Did you mean|sessions\.concurent/,
  )
})
