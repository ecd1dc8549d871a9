import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { Draft, Envelope } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import type { ReasonCode } from '../errors.ts'
import { newId } from '../ids.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { activeLocks, makeLock } from './locks.ts'
import { compileTripwire, type Tripwire, type TripwireSpec, tripwireFaults, tripwireSpec, Windows } from './tripwire.ts'
import { keepTripwires } from './tripwires.ts'

const start = Date.UTC(2026, 10, 22, 12)
const agent = { id: newId('agt'), name: 'boris-ai', kind: 'agent' }
const owner = { id: newId('usr'), name: 'boris', kind: 'user' }
const admin = { id: newId('usr'), name: 'dana', kind: 'user' }

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let records: Draft[]
let see: (envelope: Envelope) => void
let tripwires: Tripwire[]
let failures: unknown[]
let stop: () => Promise<void>

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-tripwires-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  records = []
  failures = []
  tripwires = []
  stop = keep()
})
afterEach(async () => {
  await stop()
  await store.close()
  rmSync(dir, { recursive: true })
})

function keep() {
  return keepTripwires({
    store,
    clock,
    audit: {
      append: async (draft) => ({ id: 'rec', seq: records.push(draft) }),
      watch(watcher) {
        see = watcher
        return () => {}
      },
    },
    tripwires: () => tripwires,
    administers: (id) => id === admin.id,
    agentsAdminister: async (id) => id === owner.id,
    ownerOf: (id) => (id === agent.id ? owner : undefined),
    raised: async () => {},
    told: async () => {},
    failed: (error) => failures.push(error),
  })
}

const spec = (more: Partial<TripwireSpec> = {}): TripwireSpec =>
  tripwireSpec.parse({ when: { refused: { more_than: 3, within: '1m' } }, lock: 'session', for: '15m', ...more })
const wire = (more: Partial<TripwireSpec> = {}, name = 'refusals') => compileTripwire(name, spec(more))

const session = newId('ses')
const credential = newId('crd')
function refused(reason: ReasonCode = 'no_rule', more: Partial<Envelope> = {}): Envelope {
  return {
    ...{ v: 1, id: newId('rec'), at: clock.now(), node: 'nod', seq: 1, type: 'action.refused', actor: agent, session, credential },
    decision: { verdict: 'deny', reason, link: agent.name, obligations: {} },
    ...more,
  }
}
/** What has been locked when all that was begun is done. */
async function locks() {
  await stop()
  stop = keep()
  return (await activeLocks(store.db, clock.now())).map(({ target_kind, target, made_by }) => [target_kind, target, made_by])
}
const flood = (count: number, ...of: Parameters<typeof refused>) => {
  for (let i = 0; i < count; i++) see(refused(...of))
}

test('more refusals than its number within its time lock the session, once, for its time, in its own name', async () => {
  tripwires = [wire()]
  flood(3)
  assert.deepEqual(await locks(), [])
  flood(500)
  assert.deepEqual(await locks(), [['session', session, 'refusals']])
  const made = records.filter(({ type }) => type === 'lock.made')
  assert.equal(made.length, 1, 'one lock and one record, however many refusals')
  assert.equal(made[0]?.data?.tripwire, 'refusals')
  flood(500)
  assert.equal((await locks()).length, 1, 'it is there already')
  clock.advance(15 * 60_000)
  assert.deepEqual(await locks(), [], 'it lifts itself')
  flood(4)
  assert.equal((await locks()).length, 1)
  assert.deepEqual(failures, [])
})

test('refusals that are far apart are nothing, and neither is a clock that jumps', async () => {
  tripwires = [wire()]
  for (let i = 0; i < 20; i++) {
    flood(1)
    clock.advance(20_000)
  }
  clock.advance(-3_600_000)
  flood(3)
  clock.advance(3_600_000)
  flood(3)
  assert.deepEqual(await locks(), [])
})

test('only what somebody may not have counts, and only when he has proved who he is', async () => {
  tripwires = [wire()]
  for (const reason of [
    'locked',
    'rate_limited',
    'budget_spent',
    'audit_unavailable',
    'lease_lapsed',
    'approval_required',
    'factor_required',
    'quarantined',
  ] as const)
    flood(10, reason)
  // Names that a stranger typed: somebody else would be locked.
  flood(10, 'no_rule', { type: 'credential.refused' })
  flood(10, 'no_rule', { type: 'factor.refused' })
  flood(10, 'no_rule', { type: 'connection.refused' })
  for (let i = 0; i < 10; i++) {
    const { actor, ...anonymous } = refused()
    see(anonymous)
    const { session: _, ...sessionless } = refused()
    see(sessionless)
  }
  assert.deepEqual(await locks(), [])
})

test('of one session or of the whole identity', async () => {
  tripwires = [wire()]
  const spread = () => {
    for (let i = 0; i < 8; i++) see(refused('no_rule', { session: newId('ses') }))
  }
  spread()
  assert.deepEqual(await locks(), [])
  tripwires = [wire({ lock: 'identity' })]
  spread()
  assert.deepEqual(await locks(), [['identity', agent.id, 'refusals']])
})

test('what is locked is proven by the record: the credential, the agents of the owner, never a person with them', async () => {
  tripwires = [wire({ lock: 'credential' }, 'a'), wire({ lock: 'owner' }, 'b')]
  flood(4)
  // Both are made in one millisecond: their ids have no order.
  assert.deepEqual((await locks()).sort(), [
    ['credential', credential, 'a'],
    ['owner', owner.id, 'b'],
  ])
})

test('an administrator loses his session at the most, and whoever is excepted nothing', async () => {
  tripwires = [wire({ lock: 'identity' }, 'a'), wire({ lock: 'credential' }, 'b'), wire({ lock: 'owner' }, 'c')]
  flood(4, 'no_rule', { actor: admin })
  assert.deepEqual(
    (await locks()).map(([kind]) => kind),
    ['session', 'session', 'session'],
  )
  clock.advance(3_600_000)
  tripwires = [wire({ except: ['boris-ai'] }, 'a'), wire({ lock: 'owner', except: ['boris'] }, 'b')]
  flood(10)
  assert.deepEqual(await locks(), [])
})

test('a person whose agent administers loses his session at the most: a lock on him would stop that agent too', async () => {
  tripwires = [wire({ lock: 'identity' })]
  flood(4, 'no_rule', { actor: { ...owner, kind: 'user' } })
  assert.deepEqual(await locks(), [['session', session, 'refusals']])
})

test('a copied credential locks what is asked for beside its session, which is locked already', async () => {
  tripwires = [wire({ when: { copied_credential: true }, lock: 'identity' }, 'copies')]
  flood(10)
  assert.deepEqual(await locks(), [])
  see(refused('allowed', { type: 'credential.copied' }))
  assert.deepEqual(await locks(), [['identity', agent.id, 'copies']])
  assert.equal(tripwireFaults(spec({ when: { copied_credential: true }, lock: 'session' })).length, 1)
  assert.equal(tripwireFaults(spec({ when: { refused: { more_than: 1, within: '2h' } } })).length, 1)
})

test('a lock that another node made for the same cause is enough', async () => {
  tripwires = [wire()]
  await store.reduce((trx) => makeLock(trx, { kind: 'session', target: session, reason: 'x', madeBy: 'refusals', now: start }))
  flood(4)
  assert.equal((await locks()).length, 1)
})

test('rule 11: what is counted is bounded, in keys and in times', () => {
  const windows = new Windows()
  for (let i = 0; i < 30_000; i++) windows.add(`key ${i}`, start, { moreThan: 5, withinMs: 60_000 })
  assert.equal(windows.size, 10_000)
})
