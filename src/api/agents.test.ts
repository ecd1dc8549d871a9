import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { describeMcp } from '../gateways/mcp/describe.ts'
import type { LiveSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import type { AgentDetail, AgentRow, InstanceList } from './agents-contract.ts'
import { csr, openHouse } from './house.fixture.ts'

const DAY = 24 * 3_600_000

const WORLD = `
kind: mcp
name: files
spec: { command: [server] }
---
kind: role
name: developer
spec:
  allow:
    - { mcp: files, tools: [read_file, list_files], where: 'identity.name != "nobody"' }
    - { mcp: files, tools: delete_file }
  deny:
    - { mcp: files, tools: format_disk, reason: never }
  request:
    - { role: auditor, max: 1h, approvers: { role: admin } }
---
kind: role
name: agents
spec: { allow: [{ chaperone: any, verbs: [identities] }] }
---
kind: user
name: boris
spec: { roles: [developer] }
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [developer, lost], unused: 30d, review: 90d }
---
kind: user
name: keeper
spec: { roles: [agents] }
---
kind: user
name: eve
spec: {}
`

async function house(t: TestContext, options: Parameters<typeof openHouse>[1] = {}) {
  const open = await openHouse(t, options)
  const dana = await open.signIn('dana')
  const applied = await open.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'world.yaml', text: WORLD.replace(', lost]', ']') }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  const people = { dana, boris: await open.signIn('boris'), eve: await open.signIn('eve'), agent: await open.signIn('boris-ai') }
  const show = async (as: LiveSession, name = 'boris-ai') => (await open.ask<AgentDetail>(as, 'GET', `/v1/agents/${encodeURIComponent(name)}`)).value
  const review = async (as: LiveSession, decision: string, more: Record<string, unknown> = {}) => {
    const seen = (await show(people.boris)).seen
    return open.ask<AgentRow>(as, 'POST', '/v1/agents/boris-ai/review', { decision, seen, ...more })
  }
  /** A call of the agent, as a gateway has it recorded. */
  async function did(session: LiveSession, name: string): Promise<void> {
    const { resource, spec } = open.parts.state.current().find('mcp', 'files')!
    const action = describeMcp({ resource, spec: spec as never }, { method: 'tools/call', params: { name, arguments: {} } })
    open.parts.guard.settle(await open.parts.guard.admit(session, action, { bodies: [{ name: 'arguments', bytes: '{}' }] }), { status: 'ok' })
  }
  return { ...open, ...people, show, review, did }
}

test('running copies are listed to whoever owns the agent, and to who may see all; to nobody else', async (t) => {
  const { ask, boris, eve, agent, dana, signIn, clock } = await house(t)
  clock.advance(1)
  await ask(boris, 'POST', '/v1/clients', { client: 'cursor', csr: csr() })
  const list = async (as: LiveSession, query = '') => (await ask<InstanceList>(as, 'GET', `/v1/instances${query}`)).value.instances
  const mine = await list(boris)
  assert.deepEqual(
    mine.map(({ agent, owner, where, state }) => [agent, owner, where, state]),
    [
      ['boris/cursor', 'boris', 'cursor at 192.0.2.1', 'live'],
      ['boris-ai', 'boris', 'login', 'live'],
    ],
  )
  assert.deepEqual([mine[0]?.roles, mine[0]?.connections, mine[0]?.actionsToday], [['developer'], 0, 0])
  assert.equal((await list(dana)).length, 2)
  assert.deepEqual(
    (await list(agent)).map(({ id }) => id),
    [agent.id],
    'an agent sees itself',
  )
  assert.deepEqual(await list(eve), [])
  const { status: strange } = await ask(eve, 'GET', '/v1/instances?of=boris-ai')
  const { status: nobody } = await ask(eve, 'GET', '/v1/instances?of=nothing')
  assert.deepEqual([strange, nobody], [404, 404], 'rule 8: the same for what is not there')
  assert.deepEqual((await ask<InstanceList>(dana, 'GET', '/v1/instances?limit=1')).value.more, true)
  await ask(dana, 'POST', '/v1/locks', { kind: 'session', target: agent.id, reason: 'look into it' })
  assert.deepEqual([(await list(boris, '?of=boris-ai'))[0]?.state, (await list(boris, '?of=boris-ai'))[0]?.why], ['locked', 'look into it'])
  const keeper = await signIn('keeper')
  await ask(keeper, 'POST', '/v1/identities/boris/state', { state: 'disabled' })
  assert.deepEqual(
    (await list(keeper)).map(({ state, why }) => [state, /disabled/.test(why ?? '')]),
    [
      ['stopped', true],
      ['stopped', true],
    ],
    'and why',
  )
  const { agents } = (await ask<{ agents: AgentRow[] }>(keeper, 'GET', '/v1/agents')).value
  assert.deepEqual(
    agents.filter(({ owner }) => owner === 'boris').map(({ name, state, stopped, instances }) => [name, state, stopped, instances]),
    [
      ['boris-ai', 'stopped', 'owner', 1],
      ['boris/cursor', 'stopped', 'owner', 1],
      ['ci', 'stopped', 'owner', 0],
    ],
  )
})

test('none, one and five hundred copies of an agent are listed, as many as are asked for, and it is said that there are more', async (t) => {
  const { ask, boris, agent, store, sessions } = await house(t)
  const list = async (query: string) => (await ask<InstanceList>(boris, 'GET', `/v1/instances${query}`)).value
  assert.deepEqual((await list('?of=ci')).instances, [])
  assert.equal((await list('?of=boris-ai')).instances.length, 1)
  const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', agent.id).executeTakeFirstOrThrow()
  const copies = Array.from({ length: 499 }, () => ({ ...row, id: newId('ses') }))
  for (let from = 0; from < copies.length; from += 100)
    await store.db
      .insertInto('sessions')
      .values(copies.slice(from, from + 100))
      .execute()
  const some = await list('?of=boris-ai')
  assert.deepEqual([some.instances.length, some.more], [100, true])
  const all = await list('?of=boris-ai&limit=500')
  assert.deepEqual([all.instances.length, all.more, new Set(all.instances.map(({ id }) => id)).size], [500, undefined, 500])
  await sessions.end(
    all.instances.map(({ id }) => id),
    'killed',
  )
  assert.deepEqual((await list('?of=boris-ai')).instances, [])
})

test('one agent is shown whole: rights in words, what was never used, and a role that would be just enough', async (t) => {
  const { show, boris, agent, dana, did, ask, parts } = await house(t, { record: 'real' })
  await ask(dana, 'POST', '/v1/invitations', { name: 'boris-ai' })
  for (const tool of ['read_file', 'read_file', 'list_files']) await did(agent, tool)
  const { holds, usage, ...rest } = await show(boris)
  assert.deepEqual([rest.name, rest.owner, rest.state, rest.openTokens, rest.running.length], ['boris-ai', 'boris', 'active', 1, 1])
  assert.deepEqual(rest.terms, { unusedMs: 30 * DAY, reviewMs: 90 * DAY })
  assert.equal(rest.due?.why, 'unused')
  assert.deepEqual(
    holds.map(({ name, rules, mayAsk }) => [name, rules.map(({ words, used }) => [words, used]), mayAsk]),
    [
      [
        'developer',
        [
          ['may use mcp files: tools read_file, list_files; only where identity.name != "nobody"', true],
          ['may use mcp files: tools delete_file', false],
          ['may not use mcp files: tools format_disk; reason never', undefined],
        ],
        ['auditor'],
      ],
    ],
  )
  assert.deepEqual([usage?.actions, usage?.unclear, usage?.unused, usage?.days], [3, 0, 1, 30])
  assert.match(usage?.proposed ?? '', /name: boris-ai-just-enough\n.*spec:\n.*allow:\n.*mcp: files/s)
  assert.doesNotMatch(usage?.proposed ?? '', /delete_file/)
  const reads = () => parts.store.db.selectFrom('audit_leaves').select('id').where('type', '=', 'audit.read').execute()
  assert.equal((await reads()).length, 0, 'his own')
  await show(dana)
  assert.equal((await reads()).length, 1, 'who looks leaves a record')
})

test('what an agent may do is not shown to the agent, nor to a stranger; and without `audit.read` not what it did', async (t) => {
  const { ask, agent, eve, signIn, show } = await house(t)
  for (const who of [agent, eve])
    for (const name of ['boris-ai', 'nothing']) assert.equal((await ask(who, 'GET', `/v1/agents/${name}`)).code, 'no_rule', name)
  const detail = await show(await signIn('keeper'))
  assert.deepEqual([detail.name, detail.usage, detail.holds[0]?.rules[0]?.used], ['boris-ai', undefined, undefined])
})

test('rule 5: nobody but its owner, or who may, reviews an agent; its owner with a second factor', async (t) => {
  const { review, agent, eve, signIn, records, clock } = await house(t)
  for (const who of [agent, eve]) assert.equal((await review(who, 'keep')).code, 'no_rule')
  assert.equal((await review(await signIn('boris', { factorGiven: false }), 'keep')).code, 'factor_required')
  assert.equal((await review(await signIn('keeper', { factorGiven: false }), 'keep')).code, 'factor_required')
  clock.advance(3_000)
  const kept = await review(await signIn('boris'), 'keep', { reason: 'runs every month' })
  assert.deepEqual([kept.status, kept.value.reviewedBy, kept.value.reviewedAt], [200, 'boris', clock.now()])
  const record = records.findLast(({ type }) => type === 'agent.reviewed')
  assert.deepEqual([record?.actor?.name, record?.data?.decision, record?.data?.reason], ['boris', 'keep', 'runs every month'])
  assert.equal((await review(await signIn('keeper'), 'keep')).status, 200)
})

test('nobody keeps what he did not see: a role that was widened since he looked is another thing', async (t) => {
  const { ask, boris, dana, show } = await house(t)
  const { seen } = await show(boris)
  const text = 'kind: role\nname: developer\nspec: { allow: [{ mcp: files, tools: any }] }\n'
  await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'x.yaml', text }] })
  assert.equal((await ask(boris, 'POST', '/v1/agents/boris-ai/review', { decision: 'keep', seen })).code, 'conflict')
})

test('rule 6: an owner stops his agent by a review; to wake it up takes the verb, and counts as a review', async (t) => {
  const { ask, boris, agent, review, signIn, clock, parts, records } = await house(t)
  const connection = agent.connect('postgres')
  const { value } = await review(boris, 'stop', { reason: 'not wanted' })
  assert.deepEqual([value.state, value.stopped], ['stopped', 'hand'])
  assert.throws(() => parts.state.current().links(agent.principal.chain, clock.now()))
  parts.sessions.review(() => undefined)
  connection.closed()
  assert.equal((await review(boris, 'keep')).code, 'conflict')
  assert.equal((await ask(boris, 'POST', '/v1/identities/boris-ai/state', { state: 'active' })).code, 'no_rule')
  clock.advance(1_000)
  const keeper = await signIn('keeper')
  assert.equal((await ask(keeper, 'POST', '/v1/identities/boris-ai/state', { state: 'active' })).status, 200)
  const again = (await ask<{ agents: AgentRow[] }>(boris, 'GET', '/v1/agents')).value.agents.find(({ name }) => name === 'boris-ai')
  assert.deepEqual([again?.state, again?.reviewedAt, again?.reviewedBy], ['active', clock.now(), 'keeper'])
  assert.ok(records.some(({ type, data }) => type === 'identity.changed' && data?.op === 'disable'))
})

test('whoever applies documents wakes nobody up by the way: that takes the verb `identities`', async (t) => {
  const { ask, dana, signIn, boris, review } = await house(t)
  const text = (state: string) => `kind: agent\nname: boris-ai\nspec: { owner: boris, roles: [developer]${state} }\n`
  await ask(dana, 'POST', '/v1/apply', {
    files: [
      {
        path: 'x.yaml',
        text: `kind: role\nname: pipeline\nspec: { allow: [{ chaperone: any, verbs: [apply] }] }\n---\nkind: user\nname: pat\nspec: { roles: [pipeline] }\n---\n${text(', state: disabled')}`,
      },
    ],
  })
  const pat = await signIn('pat')
  const apply = (who: LiveSession, state: string) => ask(who, 'POST', '/v1/apply', { files: [{ path: 'x.yaml', text: text(state) }] })
  assert.equal((await apply(pat, ', state: active')).code, 'invalid_document')
  assert.equal((await apply(pat, '')).code, 'invalid_document')
  assert.equal((await apply(dana, '')).status, 200)
  assert.equal((await review(boris, 'keep')).status, 200)
})

test('rule 6: whom a directory stopped, and then somebody by hand, only a hand brings back', async (t) => {
  const { ask, signIn, parts } = await house(t)
  const change = (set: { state: 'disabled'; stopped: string }) =>
    parts.store.reduce((trx) => trx.updateTable('identities').set(set).where('name', '=', 'boris').execute())
  await change({ state: 'disabled', stopped: 'directory' })
  assert.equal((await ask(await signIn('keeper'), 'POST', '/v1/identities/boris/state', { state: 'disabled' })).status, 200)
  const { stopped } = await parts.store.db.selectFrom('identities').select('stopped').where('name', '=', 'boris').executeTakeFirstOrThrow()
  assert.equal(stopped, null)
})

test('those that are due are found, and those that are not are left in peace', async (t) => {
  const { ask, clock, parts, signIn } = await house(t)
  const due = async () => (await ask<{ agents: AgentRow[] }>(await signIn('boris'), 'GET', '/v1/agents?due=1')).value.agents.map(({ name }) => name)
  assert.deepEqual(await due(), [])
  clock.advance(24 * DAY)
  assert.deepEqual(await due(), ['boris-ai'])
  await parts.store.write((trx) => trx.updateTable('identities').set({ last_used_at: clock.now() }).where('name', '=', 'boris-ai').execute())
  assert.deepEqual(await due(), [])
})
