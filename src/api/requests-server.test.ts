import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { openHouse } from './house.fixture.ts'
import type { RequestRow } from './requests-contract.ts'

const WISH = { name: 'files', spec: { command: ['npx', '-y', 'files-server'] } }
const ASK = { kind: 'server', ...WISH, reason: 'for the reports' }

async function house(t: TestContext) {
  const made = await openHouse(t, { scan: () => Promise.reject(new ChaperoneError('internal', 'Asking starts nothing.')) })
  const { ask, signIn } = made
  const dana = await signIn('dana')
  const apply = async (text: string) => assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })).status, 200)
  await apply('kind: user\nname: carla\nspec: {}\n---\nkind: user\nname: erik\nspec: { roles: [admin] }\n')
  const wished = async (who: LiveSession) => (await ask<RequestRow>(who, 'POST', '/v1/requests', ASK)).value
  const decide = (who: LiveSession, { id, seen }: RequestRow, verdict: string) =>
    ask<RequestRow>(who, 'POST', `/v1/requests/${id}/decide`, { verdict, seen, reason: 'because' })
  const add = () => apply('kind: mcp\nname: files\nspec: { command: [npx, -y, files-server] }\n')
  return { ...made, dana, wished, decide, add }
}

describe('asking for a server', () => {
  test('whoever is signed in may ask, sees his own, and cannot decide (peers R38)', async (t) => {
    const { ask, signIn, dana, records, wished, decide } = await house(t)
    const boris = await signIn('boris', { factorGiven: false })
    const asked = await wished(boris)
    assert.deepEqual([asked.summary, asked.wish, asked.state, asked.approvers], ['MCP server files', WISH, 'pending', 'whoever may apply documents'])
    const record = records.findLast(({ type }) => type === 'request.made')!
    assert.equal(record.actor?.name, 'boris')
    assert.deepEqual(record.data, { request: asked.id, kind: 'server', name: 'files', reason: 'for the reports' })

    const seen = async (who: LiveSession) => (await ask<{ requests: RequestRow[] }>(who, 'GET', '/v1/requests')).value.requests.map(({ id }) => id)
    for (const who of [boris, dana]) assert.deepEqual(await seen(who), [asked.id])
    assert.deepEqual(await seen(await signIn('carla')), [])
    const no = async (who: LiveSession) => (await ask<RequestRow>(who, 'GET', `/v1/requests/${asked.id}`)).value.standing.no
    assert.equal(await no(dana), undefined)
    assert.match((await no(boris)) ?? '', /whoever may apply/)
    assert.equal((await decide(await signIn('boris'), asked, 'approve')).code, 'approval_refused')
    assert.equal((await ask(undefined, 'GET', '/v1/requests')).status, 401)
  })

  test('rule 8: what somebody else asked is as if it were not there', async (t) => {
    const { ask, signIn, dana, wished } = await house(t)
    const { id } = await wished(dana)
    const carla = await signIn('carla')
    const nobody = await ask(carla, 'GET', '/v1/requests/req_nothing')
    assert.equal(nobody.code, 'not_found')
    assert.deepEqual(await ask(carla, 'GET', `/v1/requests/${id}`), nobody)
    assert.deepEqual(await ask(carla, 'POST', `/v1/requests/${id}/withdraw`, {}), nobody)
  })

  test('it is approved when the server is there, once, and by somebody else', async (t) => {
    const { ask, signIn, dana, records, wished, decide, add } = await house(t)
    const boris = await signIn('boris')
    const asked = await wished(boris)
    assert.equal((await decide(dana, asked, 'approve')).code, 'conflict', 'nothing was added')
    await add()
    const approved = await decide(dana, asked, 'approve')
    assert.equal(approved.value.decidedBy, 'dana')
    const record = records.findLast(({ type }) => type === 'request.decided')!
    assert.deepEqual([record.data?.state, record.actor?.name], ['approved', 'dana'])
    assert.equal((await decide(await signIn('erik'), asked, 'deny')).code, 'conflict')
    assert.equal((await ask<RequestRow>(boris, 'GET', `/v1/requests/${asked.id}`)).value.state, 'approved')
  })

  test('of two decisions at the same moment one counts', async (t) => {
    const { ask, signIn, dana, wished, decide } = await house(t)
    const asked = await wished(await signIn('boris'))
    const answers = await Promise.all([decide(dana, asked, 'deny'), decide(await signIn('erik'), asked, 'deny')])
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409])
    const winner = answers.find(({ status }) => status === 200)!.value.decidedBy
    assert.equal((await ask<RequestRow>(dana, 'GET', `/v1/requests/${asked.id}`)).value.decidedBy, winner)
  })

  test('rule 12: nobody decides about his own request, nor his agent for him; a pipeline that applies decides for others', async (t) => {
    const { ask, signIn, dana, wished, decide, add } = await house(t)
    await add()
    const own = await wished(dana)
    for (const verdict of ['approve', 'deny']) assert.equal((await decide(dana, own, verdict)).code, 'approval_refused')
    const withdraw = (who: LiveSession) => ask<RequestRow>(who, 'POST', `/v1/requests/${own.id}/withdraw`, {})
    assert.equal((await withdraw(dana)).value.state, 'withdrawn')
    assert.equal((await withdraw(dana)).code, 'conflict')
    const ci = await signIn('ci', { factorGiven: false })
    const its = await wished(ci)
    assert.equal((await decide(ci, its, 'approve')).code, 'approval_refused')
    assert.equal((await decide(dana, its, 'approve')).status, 200)
    assert.equal((await decide(ci, await wished(await signIn('boris')), 'approve')).code, 'approval_refused', 'boris owns ci')
    assert.equal((await decide(ci, await wished(await signIn('carla')), 'approve')).status, 200)
  })

  test('rule 5: a request with a secret in it is refused', async (t) => {
    const { ask, signIn, records, store } = await house(t)
    const spec = { command: ['server'], env: { API_KEY: 'hunter2hunter2' } }
    const { code, value } = await ask(await signIn('boris'), 'POST', '/v1/requests', { ...ASK, spec })
    assert.equal(code, 'usage')
    assert.ok(!JSON.stringify([value, records, await store.db.selectFrom('requests').selectAll().execute()]).includes('hunter2'))
  })

  test('rule 11: so many wait for one identity, and not more', async (t) => {
    const { ask, signIn, store, clock } = await house(t)
    const boris = await signIn('boris')
    for (let i = 0; i < 10; i++) assert.equal((await ask(boris, 'POST', '/v1/requests', { ...ASK, name: `files-${i}` })).status, 200)
    assert.equal((await ask(boris, 'POST', '/v1/requests', ASK)).code, 'too_many')
    assert.equal((await ask(await signIn('dana'), 'POST', '/v1/requests', ASK)).status, 200, 'others are not held up')
    await store.write((trx) => trx.updateTable('requests').set({ state: 'denied', created_at: clock.now() }).execute())
    assert.equal((await ask(boris, 'POST', '/v1/requests', ASK)).status, 200)
    assert.equal((await ask(boris, 'POST', '/v1/requests', { ...ASK, spec: { command: ['x'.repeat(70_000)] } })).code, 'too_large')
    assert.equal((await ask(boris, 'POST', '/v1/requests', { ...ASK, spec: {} })).code, 'invalid_document')
  })
})
