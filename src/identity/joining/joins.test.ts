import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { openStore } from '../../store/open.ts'
import type { SessionTable } from '../../store/tables.ts'
import { createIdentity } from '../directory.ts'
import { type JoinSpec, joinSpec } from './document.ts'
import { issuerOf, NOW, refusedFor as refused, SERVER } from './joining.fixture.ts'
import { openJoining } from './joins.ts'
import { JoinRefused, UNKNOWN } from './refused.ts'
import { sessionsRevoked } from './revoked-sessions.ts'
import { sweepProofs, useProof, wasUsed } from './used-proofs.ts'

const issuer = issuerOf('https://ci.example')
const issued = { issuer: issuer.issuer, jwks: issuer.jwks }

async function openHouse(t: TestContext) {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-joins-'))
  const clock = manualClock(NOW)
  const store = await openStore({ dataDir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dataDir, { recursive: true })
  })
  const { dana, bot } = await store.write(async (trx) => {
    const owner = await createIdentity(trx, { kind: 'user', name: 'dana', source: 'document', now: NOW })
    return { dana: owner, bot: await createIdentity(trx, { kind: 'agent', name: 'bot', ownerId: owner.id, source: 'document', now: NOW }) }
  })
  const documents = new Map<string, JoinSpec>()
  const write = (name: string, spec: object) => documents.set(name, joinSpec.parse({ agent: 'bot', audience: 'https://test', ...spec }))
  const ended: string[] = []
  const joining = openJoining({
    ...{ store, clock, trustDomain: 'test' },
    audit: { append: async () => assert.fail('nothing is on record here') },
    sessions: { end: async (ids) => void ended.push(...ids) },
    keyring: { derive: async () => Buffer.alloc(32, 1) } as never,
    document: (name) => documents.get(name),
    open: () => async () => assert.fail('nothing is fetched'),
    servers: async () => [SERVER],
  })
  const spki = Buffer.from('the key of the certificate')
  const prove = (name: string, proof: unknown) => joining.prove({ join: name, proof, spki })
  return { store, clock, dana, bot, write, joining, prove, ended, documents }
}

/** What whoever has proven nothing hears, whatever it is that does not do. */
const unknown = (why: RegExp) => (error: unknown) => {
  assert.ok(error instanceof JoinRefused, String(error))
  assert.ok(error.message.endsWith(UNKNOWN))
  assert.match(error.facts.why, why)
  return true
}

test('rule 8: one answer for a document that is not there, one of nobody, one of a person, and a proof of another kind', async (t) => {
  const { write, prove } = await openHouse(t)
  const token = { token: await issuer.token() }
  write('ghost', { agent: 'nobody', method: 'oidc', oidc: issued, allow: [{ sub: 'workload' }] })
  write('person', { agent: 'dana', method: 'oidc', oidc: issued, allow: [{ sub: 'workload' }] })
  write('ci', { method: 'oidc', oidc: issued, allow: [{ sub: 'workload' }] })
  await assert.rejects(prove('none', token), unknown(/unknown document/))
  await assert.rejects(prove('ghost', token), unknown(/no agent nobody/))
  await assert.rejects(prove('person', token), unknown(/no agent dana/))
  for (const other of [{ chain: 'x', signed: 'x' }, { ...token, more: 1 }, 'text', null])
    await assert.rejects(prove('ci', other), unknown(/no proof of oidc/))
  assert.equal((await prove('ci', token)).subject, 'workload')
})

test('rule 1: without a rule that holds nobody joins', async (t) => {
  const { write, prove } = await openHouse(t)
  // Such a document cannot be applied; one of an older version may lie there.
  write('open', { method: 'oidc', oidc: issued, allow: [] })
  await assert.rejects(prove('open', { token: await issuer.token() }), refused(/`allow` is absent/))
  write('other', { method: 'oidc', oidc: issued, allow: [{ sub: 'another' }] })
  await assert.rejects(prove('other', { token: await issuer.token() }), refused(/its claim `sub` is "workload"/))
})

test('rule 6: an agent that is disabled does not join; that is told to those alone who would have come in', async (t) => {
  const { store, bot, write, prove } = await openHouse(t)
  write('ci', { method: 'oidc', oidc: issued, allow: [{ sub: 'workload' }] })
  await store.write((trx) => trx.updateTable('identities').set({ state: 'disabled' }).where('id', '=', bot.id).execute())
  await assert.rejects(prove('ci', { token: await issuer.token() }), { code: 'identity_disabled' })
  await assert.rejects(prove('ci', { token: await issuer.token({ sub: 'another' }) }), refused(/claim `sub`/))
})

test('rule 9: a token counts once, under whichever document, unless a document says that a machine keeps it', async (t) => {
  const { write, prove, joining } = await openHouse(t)
  const allow = [{ sub: 'workload' }]
  write('ci', { method: 'oidc', oidc: issued, allow })
  write('again', { method: 'oidc', oidc: issued, allow })
  write('kept', { method: 'oidc', oidc: { ...issued, once: false }, allow })
  const comes = async (name: string, proof: unknown) => joining.take(await prove(name, proof))
  const proof = { token: await issuer.token() }
  await comes('ci', proof)
  for (const name of ['ci', 'again'])
    await assert.rejects(comes(name, proof), (error) => refused(/shown before/)(error) && /`once: false`/.test((error as JoinRefused).fix ?? ''))
  await comes('kept', proof)
  await comes('kept', proof)
})

test('a pod that starts again joins with the token that the kubelet wrote for the one before, until that ends; with `once` it waits for the next', async (t) => {
  const { write, prove, joining } = await openHouse(t)
  const cluster = issuerOf('https://kubernetes.default.svc.cluster.local', 'rsa')
  const allow = [{ namespace: 'agents', service_account: 'reporter' }]
  write('pod', { method: 'kubernetes', kubernetes: { jwks: cluster.jwks }, allow })
  write('strict', { method: 'kubernetes', kubernetes: { jwks: cluster.jwks, once: true }, allow })
  const token = await cluster.token({
    ...{ sub: 'system:serviceaccount:agents:reporter', jti: undefined },
    'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'reporter', uid: 'u1' }, pod: { name: 'p-1', uid: 'u2' } },
  })
  const comes = async (name: string) => joining.take(await prove(name, { token }))
  for (let i = 0; i < 3; i++) await comes('pod')
  // What is not there, or says nothing, is no claim.
  for (const about of [null, 'text', [], { namespace: '', serviceaccount: null }])
    await assert.rejects(
      prove('pod', { token: await cluster.token({ 'kubernetes.io': about }) }),
      refused(/`namespace` is absent/),
      JSON.stringify(about),
    )
  await comes('strict')
  await assert.rejects(comes('strict'), refused(/shown before/))
})

test('proofs are forgotten when nobody would believe them any more, and not before', async (t) => {
  const { store } = await openHouse(t)
  const use = (key: string, scope = 'join') => store.write((trx) => useProof(trx, scope, { key, until: NOW + 1000 }))
  assert.equal(await use('a'), true)
  assert.equal(await use('a'), false)
  assert.equal(await use('a', 'elsewhere'), true, 'whoever else numbers alike')
  assert.deepEqual([await wasUsed(store.db, 'join', 'a'), await wasUsed(store.db, 'join', 'b')], [true, false])
  await sweepProofs(store, NOW + 1000)
  assert.equal(await use('a'), false)
  await sweepProofs(store, NOW + 1001)
  assert.equal(await use('a'), true)
})

test('rule 6: of all sessions those are looked at that run and rest on certificates; a document that is gone or cannot be asked stops nobody else', async (t) => {
  const { store, dana } = await openHouse(t)
  const spec = (crl: object | undefined) => joinSpec.parse({ agent: 'bot', method: 'x509', x509: { authority: 'x', ...(crl ? { crl } : {}) } })
  const documents: Record<string, JoinSpec> = {
    fleet: spec({ file: '/a' }),
    away: spec({ file: '/away' }),
    unasked: spec(undefined),
    other: joinSpec.parse({ agent: 'bot', method: 'oidc', oidc: issued }),
  }
  const joined = (document: string) => JSON.stringify({ document, certificates: [{ serial: '01', issuer: 'AA==' }] })
  const session = (id: string, more: Partial<SessionTable>) => ({
    ...{ id, identity_id: dana.id, chain: '[]', how: 'join', client: null, purpose: null, issuer_id: null, started_at: NOW, expires_at: NOW + 1000 },
    ...{ ended_at: null, end_reason: null, factor_at: null, factor_by: null, parent_id: null, newest_credential: null, previous_credential: null },
    ...{ last_used_at: null, joined: joined('fleet'), came_from: null, given_in: null, ...more },
  })
  await store.write((trx) =>
    trx
      .insertInto('sessions')
      .values([
        session('ses_runs', {}),
        session('ses_ended', { ended_at: NOW - 1 }),
        session('ses_over', { expires_at: NOW }),
        session('ses_token', { joined: JSON.stringify({ document: 'fleet' }) }),
        session('ses_none', { joined: null }),
        session('ses_device', { how: 'device' }),
        ...['away', 'gone', 'unasked', 'other'].map((name) => session(`ses_${name}`, { joined: joined(name) })),
      ])
      .execute(),
  )
  const failed: unknown[] = []
  const asked: unknown[] = []
  const over = await sessionsRevoked({
    ...{ db: store.db, now: NOW, document: (name) => documents[name], failed: (error) => void failed.push(error) },
    lists: {
      of: async (places) => {
        asked.push(places)
        if (JSON.stringify(places).includes('away')) throw new Error('no list')
        return [{ issuer: '', thisUpdate: NOW, nextUpdate: undefined, has: () => true, isSignedBy: () => true }]
      },
    },
  })
  assert.deepEqual(over, ['ses_runs'])
  assert.equal(failed.length, 1)
  assert.deepEqual(asked.length, 2, 'nobody is asked for a document without a list')
})
