import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openHouse, START } from './house.fixture.ts'

test('who is told is what `on` and `for` say', async (t) => {
  const house = await openHouse(t)
  await house.store.db
    .insertInto('documents')
    .values({
      id: 'res_orders',
      kind: 'postgres',
      name: 'orders',
      labels: '{"env":"prod"}',
      spec: '{}',
      digest: '',
      owner: null,
      applied_by: null,
      updated_at: START,
    })
    .execute()
  const hook = { webhook: { url: 'https://hooks.test/', secret: 'hook' } }
  for (const [name, on, only] of [
    ['all', '*', {}],
    ['requests', 'request.*', {}],
    ['denied', 'request.denied', {}],
    ['dba', '*', { approvers: ['dba', 'other'] }],
    ['sre', '*', { approvers: ['sre'] }],
    ['boris', '*', { requester: ['boris*'] }],
    ['erin', '*', { requester: ['erin'] }],
    ['prod', '*', { labels: { env: 'prod' } }],
    ['test', '*', { labels: { env: 'test' } }],
  ] as const)
    house.apply(name, { on: [on], for: only, ...hook })
  await house.tell(house.requestOf())
  const told = async () => (await house.rows()).map(({ notifier }) => notifier).sort()
  assert.deepEqual(await told(), ['all', 'boris', 'dba', 'prod', 'requests'])
  await house.store.db.deleteFrom('deliveries').execute()
  const lock = { id: 'lck_1', kind: 'identity', target: house.people.boris.id, name: 'boris', reason: 'odd' }
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'made', lock, by: house.people.dana.id }))
  assert.deepEqual(await told(), ['all', 'boris'])
  const { type, data } = JSON.parse((await house.rows())[0]!.payload)
  assert.deepEqual([type, data.name, data.by.name], ['lock.made', 'boris', 'dana'])
})

test('mail goes to each of those who could decide, once, and never to who asked', async (t) => {
  const house = await openHouse(t, {
    parts: {
      voter: (id) => ({ id, name: id, kind: 'user', links: 1, roles: ['dba'], approves: false }),
      mayApply: () => true,
    },
  })
  const mail = { to: 'approvers', from: 'c@example.test', smtp: { host: 'mail.test' } }
  house.apply('mail', { on: ['request.*'], mail })
  await house.tell(house.requestOf())
  // boris is behind the agent, and erin has no address.
  assert.deepEqual(
    (await house.rows()).map(({ payload }) => JSON.parse(payload).to),
    ['dana@example.test'],
  )
  // Who issued the credential that asks may hold its key.
  const { dana, claude } = house.people
  await house.store.write((trx) =>
    trx
      .insertInto('sessions')
      .values({ id: 'ses_1', identity_id: claude.id, chain: '[]', how: 'issue', issuer_id: dana.id, started_at: 0, expires_at: 1 } as never)
      .execute(),
  )
  await house.tell(house.requestOf({ sessionId: 'ses_1' }))
  assert.equal((await house.rows()).filter(({ payload }) => payload.includes('dana@example.test')).length, 1)
  await house.tell(house.requestOf({ needs: [{ approvers: 'owner', link: house.people.claude.id }] }))
  assert.ok((await house.rows()).some(({ payload }) => payload.includes('"to":"boris@example.test"')))
  await house.tell(house.requestOf({ needs: [{ approvers: { role: 'nobody-has-it' }, link: house.people.claude.id }] }))
  house.documents.length = 0
  house.apply('server', { on: ['request.*'], mail })
  await house.tell(house.requestOf({ kind: 'server', body: { name: 'wiki', spec: {} }, needs: [] }))
  const wish = (await house.rows()).filter(({ notifier }) => notifier === 'server').map(({ payload }) => JSON.parse(payload))
  assert.deepEqual(
    wish.map(({ to, subject }) => [to, subject]),
    [['dana@example.test', '[Chaperone] boris/claude asks for the MCP server wiki']],
  )
  const lost = (await house.rows()).filter(({ state }) => state === 'given_up')
  assert.deepEqual(
    lost.map(({ payload, last_error }) => [payload, last_error]),
    Array.from({ length: 2 }, () => ['', 'nobody of those who may decide has a mail address (trait `email`)']),
  )
})

test('that an agent will be stopped is told to its owner by mail, and to whoever lists it', async (t) => {
  const house = await openHouse(t)
  const mail = { to: 'approvers', from: 'c@example.test', smtp: { host: 'mail.test' } }
  house.apply('owners', { on: ['agent.*'], mail })
  house.apply('ops', { on: ['agent.due'], for: { requester: ['boris'] }, webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  house.apply('others', { on: ['agent.*'], for: { requester: ['erin'] }, webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  const { claude, boris, erin } = house.people
  const agent = { id: claude.id, name: claude.name, ownerId: boris.id }
  const stopsAt = house.clock.now() + 7 * 24 * 3_600_000
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'due', agent, why: 'unused', stopsAt }))
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'stopped', agent: { ...agent, ownerId: erin.id }, why: 'owner' }))
  const told = (await house.rows()).map(({ notifier, event, payload }) => [notifier, event, JSON.parse(payload)] as const)
  assert.deepEqual(
    told.map(([notifier, event]) => `${notifier} ${event}`).sort(),
    ['ops agent.due', 'others agent.stopped', 'owners agent.due'],
    'erin has no address',
  )
  const [first, second] = ['owners', 'ops'].map((name) => told.find(([notifier]) => notifier === name)![2])
  assert.deepEqual([first.to, first.subject], ['boris@example.test', '[Chaperone] Will be stopped: the agent boris/claude, which nobody uses'])
  assert.match(first.text, /chaperone agent review boris\/claude/)
  assert.deepEqual(second.data, {
    agent: claude.id,
    name: 'boris/claude',
    owner: { id: boris.id, name: 'boris', kind: 'user' },
    why: 'unused',
    stopsAt: new Date(stopsAt).toISOString(),
  })
})
