import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { sqlitePlace } from '../../audit/fixtures.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import type { Write } from '../../store/store.ts'
import { openCall, until } from './call.fixture.ts'

async function opened(t: TestContext) {
  const open = await openCall(t, await sqlitePlace(t))
  const { house } = open
  const other = await house.startNode('nod_2')
  const rowOf = (id: string) => house.store.db.selectFrom('requests').select(['state', 'outcome']).where('id', '=', id).executeTakeFirstOrThrow()
  const stateOf = async (id: string) => (await rowOf(id)).state
  const inbox = async () => (await other.requests.list(house.sessionOf('dana'), { mine: 'to_decide' })).map(({ id }) => id)
  const role = (name: string, spec: object) => (trx: Write) =>
    trx
      .updateTable('documents')
      .set({ spec: canonicalJson(spec) })
      .where('kind', '=', 'role')
      .where('name', '=', name)
      .execute()
  /** What is looked at a moment after a change. */
  const reduce = async (change: (trx: Write) => Promise<unknown>) => {
    await house.reduce(change)
    house.clock.advance(2_000)
  }
  return { ...open, other, reduce, rowOf, stateOf, inbox, role }
}

test('a question that a role answers by now, or that would be refused whatever is said, is taken back without anybody waiting', async (t) => {
  const { house, parked, reduce, stateOf, inbox, role, node } = await opened(t)
  const [write, leads] = [await parked('write_file'), await parked('two_leads')]
  const told = new Set<string>()
  node.requests.watch(({ request, type }) => void (type === 'withdrawn' && told.add(request.id)))
  assert.deepEqual((await inbox()).sort(), [write.request, leads.request].sort())
  await reduce(role('deleter', { allow: [{ tool: 'files', tools: ['write_file'] }] }))
  assert.equal(await stateOf(write.request), 'pending', 'nobody has that role')
  const both = [house.ids.boris!, house.ids.bot!]
  await reduce((trx) => trx.updateTable('identities').set({ roles: '["worker","deleter"]' }).where('id', 'in', both).execute())
  await until(() => house.records.some(({ request, data }) => request === write.request && data?.state === 'withdrawn'))
  await until(() => told.has(write.request))
  assert.deepEqual([await stateOf(write.request), await stateOf(leads.request)], ['withdrawn', 'pending'])
  assert.deepEqual(await inbox(), [leads.request], 'on the other node neither')
  await reduce(role('deleter', { deny: [{ tool: 'files', tools: ['two_leads'] }] }))
  await until(() =>
    house.records.some(({ request, data }) => request === leads.request && /refused by now \(denied_by_rule\)/.test(String(data?.reason))),
  )
  assert.deepEqual(house.troubles, [])
})

test('where the node that asked is gone, the sweep of another one takes back what its rule no longer asks about', async (t) => {
  const { house, node, other, parked, reduce, role, rowOf, stateOf } = await opened(t)
  const { request } = await parked('write_file')
  await other.sweep.round()
  node.stop()
  await house.store.db.deleteFrom('leases').where('node_id', '=', 'nod_1').execute()
  await other.sweep.round()
  assert.equal(await stateOf(request), 'pending')
  await reduce(role('worker', { ask: [{ tool: 'files', tools: ['two_leads'], approvers: { role: 'lead' } }] }))
  await other.sweep.round()
  const { state, outcome } = await rowOf(request)
  assert.deepEqual([state, outcome], ['withdrawn', 'no longer asked about: the rule that asked is gone, or is another one'])
  assert.ok(house.records.some(({ type, request: of }) => type === 'request.ended' && of === request))
})

test('what acts for somebody who is stopped is not asked about any more, and what a rule still asks about is', async (t) => {
  const { house, parked, reduce, stateOf } = await opened(t)
  const [his, hers] = [await parked('write_file'), await parked('write_file', {}, house.sessionOf('danabot'))]
  await reduce((trx) => trx.updateTable('identities').set({ state: 'disabled' }).where('id', '=', house.ids.boris!).execute())
  await until(() => house.records.some(({ request, data }) => request === his.request && data?.reason === 'who asked may not act any more'))
  assert.equal(await stateOf(hers.request), 'pending')
})
