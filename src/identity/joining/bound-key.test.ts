import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { CompactSign } from 'jose'
import type { KyselyPlugin } from 'kysely'
import { manualClock } from '../../clock.ts'
import type { ChaperoneError } from '../../errors.ts'
import { openStore } from '../../store/open.ts'
import type { Write } from '../../store/store.ts'
import type { JoinKeyTable } from '../../store/tables-identity.ts'
import { createIdentity } from '../directory.ts'
import { UNSHOWN } from '../generations.ts'
import { makeInvitation } from '../invitations.ts'
import { type BoundKeySpec, boundKey } from './bound-key.ts'
import { addKey, countOf, findKey, isRevoked, openSessionsOfKey, revokeKey, stillCounts, wasShown } from './join-keys.ts'
import { joinContext, NOW, refusedFor as refused, SERVER } from './joining.fixture.ts'
import { PROOF_TYPE } from './signed-proof.ts'

const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }) as string
const der = (key: KeyObject) => key.export({ type: 'spki', format: 'der' })
const pair = (curve?: string) => (curve === undefined ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: curve }))
const written = pair()

async function openHouse(t: TestContext) {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-key-'))
  const store = await openStore({ dataDir }, { clock: manualClock(NOW) })
  t.after(async () => {
    await store.close()
    await rm(dataDir, { recursive: true })
  })
  const [dana, bot, other] = await store.write(async (trx) => {
    const owner = await createIdentity(trx, { kind: 'user', name: 'dana', source: 'document', now: NOW })
    const agent = (name: string) => createIdentity(trx, { kind: 'agent', name, ownerId: owner.id, source: 'document', now: NOW })
    return [owner, await agent('bot'), await agent('other')] as const
  })
  const context = joinContext({ agentId: bot.id, document: 'machine', store: { db: store.db }, challenge: () => NOW + 1000 })
  const token = (of: { readonly id: string } = bot) =>
    store.write((trx) => makeInvitation(trx, { kind: 'join', identityId: of.id, createdBy: dana.id, ttlMs: 60_000, now: NOW }))
  /** What a machine with this key shows, held against a document. */
  async function prove(joins: number | undefined, { key = written, spec = {}, register, shown = pem(key.publicKey) }: Asked = {}) {
    const said = { aud: 'https://test', ca: SERVER, join: 'machine', nonce: 'n', key: createHash('sha256').update(context.spki).digest('base64url') }
    const signed = await new CompactSign(Buffer.from(JSON.stringify({ ...said, ...(joins === undefined ? {} : { joins }) })))
      .setProtectedHeader({ alg: key.privateKey.asymmetricKeyType === 'ec' ? 'ES256' : 'EdDSA', typ: PROOF_TYPE })
      .sign(key.privateKey)
    const document = boundKey.spec.parse({ keys: [pem(written.publicKey)], ...spec })
    return await boundKey.prove({ key: shown, signed, ...(register === undefined ? {} : { register }) }, document, context)
  }
  const count = (proven: Awaited<ReturnType<typeof prove>>, plugin?: (trx: Write) => KyselyPlugin) =>
    store.write((trx) => proven.count!(plugin ? trx.withPlugin(plugin(trx)) : trx))
  const row = () => findKey(store.db, { document: 'machine', agentId: bot.id, spki: der(written.publicKey) })
  return { store, dana, bot, other, token, prove, count, row }
}
interface Asked {
  readonly key?: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }
  readonly spec?: Partial<BoundKeySpec>
  readonly register?: string
  /** PEM, in place of the public half */
  readonly shown?: string
}

test('rule 1: only a key that is known comes in, and only with its count', async (t) => {
  const { prove } = await openHouse(t)
  assert.match((await prove(0)).subject, /^SHA256:/)
  await assert.rejects(prove(0, { key: pair() }), refused(/this key is not known/))
  await assert.rejects(prove(undefined), refused(/the count is missing/))
  const fits = (register: string) => boundKey.proof.safeParse({ key: 'x', signed: 'x', register }).success
  assert.deepEqual([fits('x'.repeat(256)), fits('x'.repeat(257))], [true, false])
  const secret = written.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  for (const shown of ['nonsense', secret, pem(pair('secp256k1').publicKey)])
    await assert.rejects(prove(0, { shown }), refused(/no ordinary public key/))
})

test('rule 1: a token makes a key known where the document says so, for the agent it was made for', async (t) => {
  const { prove, count, token, other, dana } = await openHouse(t)
  const key = pair('prime256v1')
  const { secret: register } = await token()
  await assert.rejects(prove(0, { key, register }), refused(/keys are not made known by a token here/))
  const spec = { register: true }
  await assert.rejects(prove(0, { key, spec, register: (await token(other)).secret }), refused(/join token is unknown/))
  await assert.rejects(prove(0, { key, spec, register: 'guessed' }), refused(/join token is unknown/))
  const counted = await count(await prove(0, { key, spec, register }))
  assert.deepEqual([counted.joins, counted.issuerId], [1, dana.id])
  await assert.rejects(prove(1, { key, spec, register }), refused(/join token is unknown/), 'it was used')
  const [again] = [await count(await prove(1, { key, spec }))]
  assert.deepEqual([again.joins, again.issuerId], [2, dana.id])
})

test('rule 6: a key that two have shown opens nothing, whether that is found before or in the transaction', async (t) => {
  const { store, prove, count, row } = await openHouse(t)
  await count(await prove(0))
  const late = await prove(1)
  await store.write((trx) => revokeKey(trx, der(written.publicKey), NOW))
  // Whichever finds it: the same line helps.
  const helps = (error: unknown) => refused(/shown by two/)(error) && /chaperone agent token NAME --how \S/.test((error as ChaperoneError).fix ?? '')
  await assert.rejects(count(late), helps)
  await assert.rejects(prove(1), helps)
  const { revoked_at } = (await row())!
  await store.write((trx) => revokeKey(trx, der(written.publicKey), NOW + 5))
  assert.equal((await row())!.revoked_at, revoked_at, 'since when stays')
})

test('rule 1: a key that a document has lost meanwhile is not counted', async (t) => {
  const { store, prove, count, token } = await openHouse(t)
  const key = pair()
  const spec = { register: true }
  await count(await prove(0, { key, spec, register: (await token()).secret }))
  const proven = await prove(1, { key, spec })
  await store.write((trx) => trx.deleteFrom('join_keys').execute())
  await assert.rejects(count(proven), refused(/this key is not known/))
})

test('rule 9: whoever counts at the same moment at another node is seen by each part of the row', async (t) => {
  const { store, prove, count, row } = await openHouse(t)
  await count(await prove(0))
  const changes: readonly Partial<JoinKeyTable>[] = [{ joins: 7 }, { newest_session: 'ses_other' }, { revoked_at: NOW }]
  for (const change of changes) {
    const { joins, newest_session } = (await row())!
    const proven = await prove(joins)
    // The other node's transaction ends between what this one has read and what it writes.
    const between = (trx: Write): KyselyPlugin => {
      const last = new WeakSet<object>()
      return {
        transformQuery({ node, queryId }) {
          // What is read last of all.
          if (JSON.stringify(node).includes('previous_credential')) last.add(queryId)
          return node
        },
        async transformResult({ result, queryId }) {
          if (last.has(queryId)) await trx.updateTable('join_keys').set(change).execute()
          return result
        },
      }
    }
    await assert.rejects(
      store.write((trx) => proven.count!(trx.withPlugin(between(trx)))),
      { code: 'conflict' },
      JSON.stringify(change),
    )
    await store.write((trx) => trx.updateTable('join_keys').set({ joins, newest_session, revoked_at: null }).execute())
  }
})

test('what a count says: as it should be, lost on the way, ahead of a backup, or a copy', () => {
  assert.equal(countOf({ joins: 3 }, 3, true), 'next')
  assert.equal(countOf({ joins: 3 }, 3, false), 'next')
  assert.equal(countOf({ joins: 3 }, 2, false), 'lost')
  assert.equal(countOf({ joins: 3 }, 2, true), 'copy')
  assert.equal(countOf({ joins: 3 }, 1, false), 'copy')
  assert.equal(countOf({ joins: 3 }, 4, true), 'ahead')
})

test('recoveries: none is spent by the first join, by a session that runs, or by a token, which gives them back', async (t) => {
  const { store, bot, prove, count, row, token } = await openHouse(t)
  const spec = { register: true, recoveries: 1 }
  const left = async () => (await row())!.recoveries_left
  await count(await prove(0, { spec }))
  assert.equal(await left(), 1)
  await runs(store, bot.id, 'ses_1', (await prove(1, { spec })).subject)
  await count(await prove(1, { spec }))
  assert.equal(await left(), 1)
  await store.write((trx) => trx.updateTable('sessions').set({ ended_at: NOW }).execute())
  await count(await prove(2, { spec }))
  assert.equal(await left(), 0)
  await assert.rejects(count(await prove(3, { spec })), refused(/away too often/))
  await count(await prove(3, { spec, register: (await token()).secret }))
  assert.equal(await left(), 1)
})

test('recoveries without a limit are never used up, and those of one machine are not those of another', async (t) => {
  const { store, bot, prove, count } = await openHouse(t)
  const other = { document: 'machine', agentId: bot.id, spki: der(pair().publicKey) }
  await store.write((trx) => addKey(trx, { ...other, recoveries: 5, madeBy: null, now: NOW }))
  for (let joins = 0; joins < 3; joins++) await count(await prove(joins, { spec: { recoveries: 'unlimited' } }))
  const { joins, recoveries_left } = (await findKey(store.db, other))!
  assert.deepEqual([joins, recoveries_left], [0, 5])
})

test('rule 1: in the transaction that begins a session its key must still count, for that very session', async (t) => {
  const { store, bot, prove, count } = await openHouse(t)
  const { session } = await count(await prove(0))
  const key = { document: 'machine', agentId: bot.id, spki: der(written.publicKey) }
  const still = (which = key, id: string = session.id!) => store.write((trx) => stillCounts(trx, which, id))
  await still()
  await assert.rejects(still(key, 'ses_other'), { code: 'conflict' })
  await assert.rejects(still({ ...key, document: 'other' }), { code: 'conflict' })
  await store.write((trx) => revokeKey(trx, key.spki, NOW))
  await assert.rejects(still(), { code: 'conflict' })
})

test('rows of keys: each is found by its document, agent and key alone, and made once', async (t) => {
  const { store, bot } = await openHouse(t)
  const [one, two] = [pair(), pair()].map(({ publicKey }) => ({ document: 'machine', agentId: bot.id, spki: der(publicKey) }))
  await store.write(async (trx) => {
    await addKey(trx, { ...one!, recoveries: 1, madeBy: null, now: NOW })
    await addKey(trx, { ...two!, recoveries: 2, madeBy: null, now: NOW })
  })
  assert.deepEqual([(await findKey(store.db, one!))?.recoveries_left, (await findKey(store.db, two!))?.recoveries_left], [1, 2])
  await assert.rejects(
    store.write((trx) => addKey(trx, { ...one!, recoveries: 1, madeBy: null, now: NOW })),
    { code: 'conflict' },
  )
  await store.write((trx) => revokeKey(trx, one!.spki, NOW))
  assert.deepEqual([await isRevoked(store.db, one!.spki), await isRevoked(store.db, two!.spki)], [true, false])
})

test('sessions of a key: those of this agent that have begun by joining and run, whichever document it was', async (t) => {
  const { store, bot, other } = await openHouse(t)
  await runs(store, bot.id, 'ses_1', 'SHA256:a')
  await runs(store, bot.id, 'ses_2', 'SHA256:b')
  await runs(store, other.id, 'ses_3', 'SHA256:a')
  await runs(store, bot.id, 'ses_4', 'SHA256:a', { ended_at: NOW })
  await runs(store, bot.id, 'ses_5', 'SHA256:a', { expires_at: NOW })
  await runs(store, bot.id, 'ses_6', 'SHA256:a', { joined: null })
  await runs(store, bot.id, 'ses_7', 'SHA256:a', { how: 'device' })
  assert.deepEqual(await openSessionsOfKey(store.db, { agentId: bot.id, subject: 'SHA256:a', now: NOW }), ['ses_1'])
})

test('what a join was given was shown when its session has been opened with it, and not before', async (t) => {
  const { store, bot } = await openHouse(t)
  await runs(store, bot.id, 'ses_none', 'x', { newest_credential: null })
  await runs(store, bot.id, 'ses_unshown', 'x', { newest_credential: 'crd_1', previous_credential: UNSHOWN })
  await runs(store, bot.id, 'ses_shown', 'x', { newest_credential: 'crd_2' })
  const shown = (newest_session: string | null) => wasShown(store.db, { newest_session })
  assert.deepEqual(await Promise.all([null, 'ses_gone', 'ses_none', 'ses_unshown', 'ses_shown'].map(shown)), [false, false, false, false, true])
})

async function runs(store: Awaited<ReturnType<typeof openStore>>, identity: string, id: string, subject: string, more: object = {}): Promise<void> {
  const row = {
    ...{ id, identity_id: identity, chain: '[]', how: 'join', client: null, purpose: null, issuer_id: null, started_at: NOW, expires_at: NOW + 1000 },
    ...{ ended_at: null, end_reason: null, factor_at: null, factor_by: null, parent_id: null, newest_credential: null, previous_credential: null },
    ...{ last_used_at: null, joined: JSON.stringify({ subject }), came_from: null, given_in: null },
  }
  await store.write((trx) =>
    trx
      .insertInto('sessions')
      .values({ ...row, ...more })
      .execute(),
  )
}
