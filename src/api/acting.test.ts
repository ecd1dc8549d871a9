import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { makeDelegation } from '../identity/delegation/delegations.ts'
import { createIdentity, findIdentity } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { openConsents } from '../signin/oauth/consents.ts'
import type { Credential, Token } from './contract.ts'
import { csr, openHouse } from './house.fixture.ts'

/** What fails in the middle, once: after the delegation is there, before anybody holds a credential of it. */
const FAULTS = ['record of the session', 'record of the credential', 'store', 'authority', 'session limit'] as const
type Fault = (typeof FAULTS)[number]

async function house(t: TestContext) {
  const open = await openHouse(t)
  const { parts, audit, store, sessions, clock } = open
  const broken = () => new ChaperoneError('audit_unavailable', 'Broken for the test.')
  /** Lets it fail; `lasting`: whatever is recorded afterwards as well. */
  function fail(fault: Fault, lasting = false) {
    const type = { 'record of the session': 'session.started', 'record of the credential': 'credential.issued' }[fault as string]
    if (type !== undefined) {
      const append = audit.append.bind(audit)
      t.mock.method(audit, 'append', async (draft: Parameters<typeof append>[0]) => {
        if (draft.type !== type) return append(draft)
        if (lasting) audit.fail = broken()
        throw broken()
      })
    } else if (fault === 'store') {
      // The delegation is one write; the next is the session's.
      const write = store.write.bind(store)
      let writes = 0
      t.mock.method(store, 'write', (work: Parameters<typeof write>[0]) => (++writes === 2 ? Promise.reject(broken()) : write(work)))
    } else if (fault === 'authority') t.mock.method(parts.ca, 'issueIdentity', () => Promise.reject(broken()))
    else t.mock.method(sessions, 'start', () => Promise.reject(new ChaperoneError('too_many', 'boris/x may have one session at a time.')))
  }
  const rows = async (table: 'sessions' | 'delegations') =>
    (await store.db.selectFrom(table).select(['id', 'ended_at']).execute()).filter(({ ended_at }) => ended_at === null).map(({ id }) => id)
  const standing = async () => [...(await rows('sessions')), ...(await rows('delegations'))]
  /** The agents are there already, so that each write is one of what is tried. */
  async function agent(name: string) {
    const boris = (await findIdentity(store.db, { name: 'boris' }))!
    return store.write((trx) =>
      createIdentity(trx, {
        kind: 'agent',
        name,
        ownerId: boris.id,
        ...(name.includes('/') ? { roles: 'inherit' as const } : {}),
        source: 'client',
        now: clock.now(),
      }),
    )
  }
  return { ...open, fail, standing, agent }
}

const DOORS: Readonly<Record<string, (h: Awaited<ReturnType<typeof house>>, boris: LiveSession) => Promise<() => Promise<{ status: number }>>>> = {
  async run({ ask, agent }, boris) {
    await agent('boris/claude')
    return () => ask<Credential>(boris, 'POST', '/v1/runs', { client: 'claude', limits: { effects: ['read'] }, csr: csr() })
  },
  async client({ ask, agent }, boris) {
    await agent('boris/cursor')
    return () => ask<Credential>(boris, 'POST', '/v1/clients', { client: 'cursor', csr: csr() })
  },
  async exchange({ ask, agent, signIn, store, clock }, boris) {
    const [bot, scout] = [await agent('boris/bot'), await agent('boris/scout')]
    const from = boris.principal.identityId
    const given = await store.write((trx) => makeDelegation(trx, { fromId: from, toId: bot.id, how: 'client', madeBy: from, now: clock.now() }))
    const acting = await signIn('boris/bot', { chain: [{ identity: from }, { identity: bot.id, delegation: given.id }], how: 'client' })
    return () => ask<Credential | Token>(acting, 'POST', '/v1/exchange', { to: scout.name, csr: csr() })
  },
}

for (const [door, openDoor] of Object.entries(DOORS)) {
  test(`rule 1: ${door}: whatever fails in the middle leaves no delegation and no session`, async (t) => {
    const h = await house(t)
    const go = await openDoor(h, await h.signIn('boris'))
    const before = await h.standing()
    for (const fault of FAULTS)
      for (const lasting of fault.startsWith('record') ? [false, true] : [false]) {
        h.fail(fault, lasting)
        const { status } = await go()
        t.mock.restoreAll()
        h.audit.fail = undefined
        assert.notEqual(status, 200, fault)
        assert.deepEqual(await h.standing(), before, `${fault}${lasting ? ', and every record after it' : ''}`)
      }
    assert.equal((await go()).status, 200, 'and then it works')
  })
}

test('rule 1: consent: what fails while it is kept leaves no delegation', async (t) => {
  const { store, audit, clock, sessions, signIn, standing, agent } = await house(t)
  await agent('boris/claude-code')
  const session = await signIn('boris', { how: 'browser' })
  let kept = 0
  const consents = openConsents({
    ...{ store, audit, clock, sessions, resources: { find: () => undefined, list: () => [] } },
    grants: { keep: async () => (++kept === 1 ? Promise.reject(new ChaperoneError('store_unavailable', 'Broken for the test.')) : undefined) },
  })
  const web = { session } as unknown as Parameters<typeof consents.ask>[0]
  const waiting: Parameters<typeof consents.ask>[1] = {
    ...{ uid: 'u', client: { id: 'https://claude.ai/x', name: 'Claude Code' }, redirectUri: 'http://localhost:1/cb', readOnly: false },
    resource: { url: 'https://localhost:7444/mcp', server: undefined } as unknown as Parameters<typeof consents.ask>[1]['resource'],
  }
  const asked = await consents.ask(web, waiting)
  const before = await standing()
  await assert.rejects(consents.agree(web, waiting, asked.chosen, asked.seen, 'grant'), { code: 'store_unavailable' })
  assert.deepEqual(await standing(), before)
  await consents.agree(web, waiting, asked.chosen, asked.seen, 'grant')
  assert.equal((await standing()).length, before.length + 1)
  // A yes that is there already is not taken back by what fails later.
  kept = 0
  await assert.rejects(consents.agree(web, waiting, asked.chosen, asked.seen, 'grant'), { code: 'store_unavailable' })
  assert.equal((await standing()).length, before.length + 1)
})
