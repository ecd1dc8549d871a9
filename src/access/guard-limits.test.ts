import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { pinsByServer } from '../catalog/pins.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import type { LiveSession } from '../identity/types.ts'
import { compilePolicy } from '../policy/compile.ts'
import { shownObligations } from '../policy/limits.ts'
import type { Resource } from '../policy/types.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { openBudgets } from './budgets.ts'
import { makeGuard } from './guard.ts'
import type { State } from './state.ts'
import { type Permit, Refusal } from './types.ts'

const start = Date.UTC(2026, 10, 22, 12)
const files: Resource = { kind: 'mcp', id: 'res_files', name: 'files', labels: {} }
const mail: Resource = { kind: 'mcp', id: 'res_mail', name: 'mail', labels: {} }

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let records: Draft[]
let beforeAppend: (draft: Draft) => Promise<void>

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-limits-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  records = []
  beforeAppend = async () => {}
})
afterEach(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

/** Who acts, for whom: `boris`, `boris/claude`. Each has the roles that are written here. */
const HOLD: Readonly<Record<string, readonly string[]>> = { boris: ['dev'], dana: ['dev'], 'boris/claude': ['bot'], 'boris/cursor': ['bot'] }

function world(roles: Record<string, object>, guardrail?: object, more: { readonly withoutBudgets?: true } = {}) {
  const policy = compilePolicy(
    {
      roles: Object.entries(roles).map(([name, spec]) => ({ name, spec })),
      guardrails: guardrail ? [{ name: 'everybody', spec: guardrail }] : [],
    },
    [mcpVocabulary],
  )
  const resources = [files, mail]
  const found = (name: string) => resources.filter((resource) => resource.name === name).map((resource) => ({ resource, spec: {} }))[0]
  const state = {
    epoch: 1,
    revision: 1,
    policy,
    locks: [],
    links: (chain: LiveSession['principal']['chain']) =>
      chain.map(({ identity }) => ({
        identity: { id: identity, kind: 'agent', name: identity.slice(3), traits: {}, roles: HOLD[identity.slice(3)] },
      })),
    administering: () => [],
    identity: () => undefined,
    pins: pinsByServer([]),
    find: (_: string, name: string) => found(name),
    list: () => [],
  } as unknown as State
  return makeGuard({
    state: { current: () => state, refresh: async () => state, see: async () => {} },
    lease: { ensure: async () => {} },
    audit: {
      append: async (draft) => {
        await beforeAppend(draft)
        return { id: 'rec', seq: records.push(draft) }
      },
      claim: async () => assert.fail('no approval is used here'),
    },
    clock,
    ...(more.withoutBudgets ? {} : { budgets: openBudgets(store, clock) }),
    outcomeLost(error) {
      throw error
    },
  })
}

function sessionOf(...names: string[]): LiveSession {
  return {
    id: `ses_${names.at(-1)}`,
    principal: { identityId: `id_${names.at(-1)}`, kind: 'agent', name: names.at(-1), chain: names.map((name) => ({ identity: `id_${name}` })) },
    startedAt: start,
    how: 'login',
    assertLive() {},
  } as unknown as LiveSession
}
const boris = sessionOf('boris')
const dana = sessionOf('dana')

const call = (name = 'read', resource = files) =>
  describeMcp({ resource, spec: { tools: {}, trusted: false } }, { method: 'tools/call', params: { name } })
const method = (name: string, params: object = {}) =>
  describeMcp({ resource: files, spec: { tools: {}, trusted: false } }, { method: name, params: { ...params } })

type Guard = ReturnType<typeof world>
/** One call, from the permit to its outcome; the reason when it was refused. */
async function once(guard: Guard, session = boris, action = call()): Promise<string> {
  try {
    guard.settle(await guard.admit(session, action), { status: 'ok' })
    return 'ok'
  } catch (error) {
    return error instanceof ChaperoneError ? error.code : String(error)
  }
}
const refusalOf = async (guard: Guard, session = boris, action = call()): Promise<Refusal> => {
  const error = await guard.admit(session, action).catch((thrown: unknown) => thrown)
  assert.ok(error instanceof Refusal)
  return error
}
const dev = (limits: object, tools: string | string[] = 'any') => ({ dev: { allow: [{ mcp: 'any', tools, limits }] } })

test('rate: the call over the limit is refused and recorded, says which rule and when to try again, and then it passes', async () => {
  const guard = world(dev({ rate: '2/10s' }))
  assert.deepEqual([await once(guard), await once(guard)], ['ok', 'ok'])
  const refusal = await refusalOf(guard)
  assert.equal(refusal.code, 'rate_limited')
  assert.equal(refusal.decision.retryAfter, 5)
  assert.equal(
    refusal.message,
    'tools/call read on files is over a limit: rate 2/10s per identity (boris, role dev, allow rule 1). Try again in 5 seconds.',
  )
  const record = records.at(-1)!
  assert.equal(record.type, 'action.refused')
  assert.deepEqual([record.decision?.reason, record.decision?.rule?.document, record.decision?.link], ['rate_limited', 'dev', 'boris'])
  assert.deepEqual(record.decision?.obligations, { limits: ['rate 2/10s per identity (boris, role dev, allow rule 1)'] })
  clock.advance(4999)
  assert.equal(await once(guard), 'rate_limited')
  clock.advance(1)
  assert.equal(await once(guard), 'ok')
  assert.equal(await once(guard), 'rate_limited')
})

test('budget: it outlives the node, and says when it begins anew', async () => {
  const roles = dev({ budget: '2/1d' })
  assert.deepEqual([await once(world(roles)), await once(world(roles))], ['ok', 'ok'])
  clock.advance(60_000)
  const refusal = await refusalOf(world(roles))
  assert.equal(refusal.code, 'budget_spent')
  assert.equal(refusal.decision.retryAfter, 86_340)
  assert.match(refusal.message, /Try again in 86340 seconds \(23h59m\)\.$/)
  clock.advance(86_340_000)
  assert.equal(await once(world(roles)), 'ok')
})

test('concurrent: as many as written at the same time, and one more when one is over', async () => {
  const guard = world(dev({ concurrent: 2 }))
  const permits = [await guard.admit(boris, call()), await guard.admit(boris, call())]
  const refusal = await refusalOf(guard)
  assert.equal(refusal.code, 'too_many')
  assert.match(refusal.message, /Try again when one of those that run is over\.$/)
  assert.equal(refusal.decision.retryAfter, 1)
  guard.settle(permits[0] as Permit, { status: 'ok' })
  guard.settle(permits[0] as Permit, { status: 'ok' })
  permits[0] = await guard.admit(boris, call())
  assert.equal((await refusalOf(guard)).code, 'too_many', 'a permit that is settled twice frees one place')
  for (const permit of permits) guard.settle(permit, { status: 'unknown' })
  assert.equal(await once(guard), 'ok')
})

test('per: what is counted together', async () => {
  const counts = async (per: string | undefined) => {
    const guard = world(dev({ rate: '1/1h', ...(per && { per }) }))
    assert.equal(await once(guard), 'ok')
    return {
      same: await once(guard),
      tool: await once(guard, boris, call('write')),
      server: await once(guard, boris, call('read', mail)),
      identity: await once(guard, dana),
    }
  }
  const perIdentity = { same: 'rate_limited', tool: 'rate_limited', server: 'ok', identity: 'ok' }
  assert.deepEqual(await counts(undefined), perIdentity)
  assert.deepEqual(await counts('identity'), perIdentity)
  assert.deepEqual(await counts('server'), { ...perIdentity, identity: 'rate_limited' })
  assert.deepEqual(await counts('tool'), { ...perIdentity, tool: 'ok' })
})

test('rule 7: however many agents act for a person, together they use what is hers', async () => {
  const guard = world({ ...dev({ rate: '3/1h' }), bot: { allow: [{ mcp: 'any', tools: 'any', limits: { rate: '2/1h' } }] } })
  const claude = sessionOf('boris', 'boris/claude')
  const cursor = sessionOf('boris', 'boris/cursor')
  assert.deepEqual([await once(guard, claude), await once(guard, claude)], ['ok', 'ok'])
  const own = await refusalOf(guard, claude)
  assert.equal(own.decision.link, 'boris/claude', 'its own limit is used up')
  assert.equal(await once(guard, cursor), 'ok', 'what was refused to the one took nothing from the person')
  const persons = await refusalOf(guard, cursor)
  assert.equal(persons.decision.link, 'boris', 'and now the limit of the person')
  assert.equal(await once(guard, boris), 'rate_limited')
})

test('a call of a chain counts once where all are counted together (peers R63)', async () => {
  const guard = world(
    { dev: { allow: [{ mcp: 'any', tools: 'any' }] }, bot: { allow: [{ mcp: 'any', tools: 'any' }] } },
    { limit: [{ mcp: 'any', limits: { rate: '2/1h', per: 'server' } }] },
  )
  const claude = sessionOf('boris', 'boris/claude')
  assert.deepEqual([await once(guard, claude), await once(guard, claude), await once(guard, claude)], ['ok', 'ok', 'rate_limited'])
  assert.equal(await once(guard, dana), 'rate_limited', 'whoever it is')
})

test('a guardrail holds beside the roles, and the tighter refuses', async () => {
  const guard = world(dev({ rate: '100/1h' }), { limit: [{ mcp: 'files', tools: ['write'], limits: { rate: '1/1h' } }] })
  assert.deepEqual(await once(guard, boris, call('write')), 'ok')
  const refusal = await refusalOf(guard, boris, call('write'))
  assert.deepEqual([refusal.decision.rule?.kind, refusal.decision.rule?.document], ['guardrail', 'everybody'])
  assert.equal(await once(guard, boris, call('read')), 'ok')
})

test('rules about other tools have counts of their own', async () => {
  const guard = world({
    dev: {
      allow: [
        { mcp: 'any', tools: ['read'], limits: { rate: '1/1h' } },
        { mcp: 'any', tools: ['write'], limits: { rate: '1/1h' } },
      ],
    },
  })
  assert.deepEqual([await once(guard), await once(guard, boris, call('write')), await once(guard)], ['ok', 'ok', 'rate_limited'])
})

test('handshakes, lists, pings and notifications use nothing up and are never refused for it', async () => {
  const guard = world({ dev: { allow: [{ mcp: 'any', can: 'any', limits: { rate: '1/1h', concurrent: 1, budget: '1/1d' } }] } })
  for (const name of ['initialize', 'tools/list', 'ping', 'notifications/initialized', 'stream'])
    assert.equal(await once(guard, boris, method(name)), 'ok')
  assert.equal(await once(guard), 'ok')
  assert.equal(await once(guard), 'rate_limited')
  for (const name of ['initialize', 'tools/list', 'ping', 'notifications/cancelled', 'stream'])
    assert.equal(await once(guard, boris, method(name)), 'ok')
})

test('a rule about no tool in particular counts resources and prompts as well', async () => {
  const guard = world({ dev: { allow: [{ mcp: 'any', can: 'read', limits: { rate: '2/1h' } }] } })
  assert.equal(await once(guard, boris, method('resources/read', { uri: 'test://1' })), 'ok')
  assert.equal(await once(guard, boris, method('prompts/get', { name: 'greet' })), 'ok')
  assert.equal(await once(guard, boris, method('resources/read', { uri: 'test://1' })), 'rate_limited')
})

test('rule 11: per tool, the URIs of resources are no names that a client could invent to begin anew', async () => {
  const guard = world({ dev: { allow: [{ mcp: 'any', resources: 'any', limits: { rate: '1/1h', per: 'tool' } }] } })
  assert.equal(await once(guard, boris, method('resources/read', { uri: 'test://1' })), 'ok')
  assert.equal(await once(guard, boris, method('resources/read', { uri: 'test://2' })), 'rate_limited')
})

test('asking what would be decided uses nothing up', async () => {
  const guard = world(dev({ rate: '1/1h', budget: '1/1d' }))
  for (let i = 0; i < 5; i++) assert.equal(guard.judge(boris, call()).verdict, 'allow')
  assert.deepEqual(shownObligations(guard.judge(boris, call()).obligations), {
    limits: ['rate 1/1h per identity (boris, role dev, allow rule 1)', 'budget 1/1d per identity (boris, role dev, allow rule 1)'],
  })
  assert.equal(await once(guard), 'ok')
})

test('what did not happen used nothing up: a refusal, an intent that could not be recorded, a budget that was spent', async () => {
  const guard = world({ dev: { allow: [{ mcp: 'any', tools: ['read'], limits: { rate: '2/1h', concurrent: 1, budget: '2/1d' } }] } })
  for (let i = 0; i < 5; i++) assert.equal(await once(guard, boris, call('write')), 'no_rule')
  beforeAppend = async () => {
    throw new ChaperoneError('audit_unavailable', 'The disk is full.')
  }
  for (let i = 0; i < 5; i++) assert.equal(await once(guard), 'audit_unavailable')
  beforeAppend = async () => {}
  // A budget is given back in the store, after the answer.
  await store.write(async () => {})
  assert.deepEqual([await once(guard), await once(guard)], ['ok', 'ok'])
  const used = () => store.db.selectFrom('budgets').select('used').executeTakeFirstOrThrow()
  assert.deepEqual(await used(), { used: 2 })
  assert.equal(await once(guard), 'rate_limited')
  clock.advance(3_600_000)
  for (let i = 0; i < 5; i++) assert.equal(await once(guard), 'budget_spent', 'the rate is not used up by it')
})

test('rule 1: a budget that cannot be counted allows nothing, and the refusal is recorded', async () => {
  assert.equal(await once(world(dev({ budget: '5/1d' }), undefined, { withoutBudgets: true })), 'obligation_unsupported')
  assert.equal(records.at(-1)?.type, 'action.refused')
  const guard = world(dev({ budget: '5/1d', concurrent: 1 }))
  await store.close()
  for (let i = 0; i < 2; i++) assert.equal(await once(guard), 'internal', 'and no place is lost')
  assert.equal(records.at(-1)?.type, 'action.refused')
  store = await openStore({ dataDir: dir }, { clock })
})

test('calls that come at once do not pass together where one alone may', async () => {
  for (const limits of [{ rate: '3/1h' }, { concurrent: 3 }, { budget: '3/1d' }]) {
    const guard = world(dev(limits))
    const permits = await Promise.allSettled(Array.from({ length: 20 }, () => guard.admit(dana, call())))
    assert.equal(permits.filter(({ status }) => status === 'fulfilled').length, 3, JSON.stringify(limits))
  }
})
