import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { CompactSign } from 'jose'
import type { Draft } from '../audit/record.ts'
import { openAuthority } from '../ca/authority.ts'
import { readCsr } from '../ca/csr.ts'
import { makeCsr } from '../ca/make-csr.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { createIdentity } from '../identity/directory.ts'
import { makeInvitation } from '../identity/invitations.ts'
import { type JoinSpec, joinSpec } from '../identity/joining/document.ts'
import { issuerOf, NOW, SERVER } from '../identity/joining/joining.fixture.ts'
import { type Joining, openJoining } from '../identity/joining/joins.ts'
import { PROOF_TYPE } from '../identity/joining/signed-proof.ts'
import { openSessions } from '../identity/sessions.ts'
import type { Principal, Sessions } from '../identity/types.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openStore } from '../store/open.ts'
import { type JoinedIn, openJoin } from './join.ts'

export type Place = () => Promise<{ readonly url: string } | { readonly dataDir: string }>

const issuer = issuerOf('https://ci.example')
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }) as string
const request = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return makeCsr(privateKey, publicKey)
}
const codeOf = (one: PromiseSettledResult<unknown>) =>
  one.status === 'fulfilled' ? 'in' : one.reason instanceof ChaperoneError ? one.reason.code : String(one.reason)

/** One store, two nodes over it, and an agent that may join at either. */
async function openHouse(t: TestContext, place: Place) {
  const clock = manualClock(NOW)
  const at = await place()
  const root = mkdtempSync(join(tmpdir(), 'chaperone-join-'))
  const machine = generateKeyPairSync('ed25519')
  const documents: Record<string, JoinSpec> = {
    ci: joinSpec.parse({
      agent: 'bot',
      method: 'oidc',
      oidc: { issuer: issuer.issuer, jwks: issuer.jwks },
      allow: [{ sub: 'workload' }],
      audience: 'https://test',
    }),
    machine: joinSpec.parse({
      agent: 'bot',
      method: 'bound-key',
      'bound-key': { keys: [pem(machine.publicKey)], recoveries: 2 },
      audience: 'https://test',
    }),
    open: joinSpec.parse({ agent: 'bot', method: 'bound-key', 'bound-key': { register: true }, audience: 'https://test' }),
  }
  const records: Draft[] = []
  let beforeAppend = async (_: Draft): Promise<void> => {}
  const audit = {
    append: async (draft: Draft) => {
      await beforeAppend(draft)
      return { id: `rec_${records.length}`, seq: records.push(draft) }
    },
  }

  async function node() {
    const store = await openStore(at, { clock })
    const keyring = await openKeyring(store, await loadRootKey({ store, createAt: join(root, 'key') }), clock)
    const ca = await openAuthority(store, keyring, { clock, trustDomain: 'test' })
    const sessions = openSessions({ store, audit, clock, raised: async () => {}, mayAct: async () => {} })
    const joining = openJoining({
      ...{ store, audit, keyring, clock, trustDomain: 'test', sessions },
      document: (name) => documents[name],
      open: () => async () => assert.fail('nothing is fetched'),
      servers: async () => [SERVER],
    })
    t.after(async () => {
      await ca.close()
      await store.close()
    })
    return { store, sessions, joining, joinIn: openJoin({ store, ca, sessions, audit, clock, joining }) }
  }
  t.after(() => rm(root, { recursive: true }))
  const one = await node()
  // SQLite is one process with one node.
  const two = 'url' in at ? await node() : one
  const { bot, dana } = await one.store.write(async (trx) => {
    const owner = await createIdentity(trx, { kind: 'user', name: 'dana', source: 'document', now: NOW })
    return { dana: owner, bot: await createIdentity(trx, { kind: 'agent', name: 'bot', ownerId: owner.id, source: 'document', now: NOW }) }
  })

  /** What a machine with this key would send, with a count of its own. */
  async function shown(joins: number, { as = 'machine', pair = machine, register, at: { joining } = one }: Shown = {}) {
    const csr = request()
    const said = { aud: 'https://test', ca: SERVER, join: as, nonce: (await joining.challenge()).nonce, joins }
    const key = createHash('sha256').update(readCsr(csr).spki).digest('base64url')
    const signed = await new CompactSign(Buffer.from(JSON.stringify({ ...said, key })))
      .setProtectedHeader({ alg: 'EdDSA', typ: PROOF_TYPE })
      .sign(pair.privateKey)
    return { join: as, proof: { key: pem(pair.publicKey), signed, ...(register === undefined ? {} : { register }) }, csr }
  }
  /** Somebody comes in with what he was given. */
  const uses = async (joined: JoinedIn, sessions: Sessions = one.sessions) => {
    const chain = [{ identity: bot.id }]
    const principal: Principal = {
      ...{ identityId: bot.id, kind: 'agent', name: 'bot', credentialId: joined.credential, sessionId: joined.session, chain },
      ...{ notAfter: clock.now() + 60_000, proof: 'mtls' },
    }
    return await sessions.open(principal)
  }
  const token = async () =>
    (await one.store.write((trx) => makeInvitation(trx, { kind: 'join', identityId: bot.id, createdBy: dana.id, ttlMs: 60_000, now: clock.now() })))
      .secret
  const open = async () => (await one.store.db.selectFrom('sessions').select('id').where('ended_at', 'is', null).execute()).map(({ id }) => id)
  return {
    ...{ one, two, clock, records, shown, uses, token, open, machine, dana },
    onAppend: (work: typeof beforeAppend) => {
      beforeAppend = work
    },
  }
}
interface Shown {
  readonly as?: string
  readonly pair?: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }
  readonly register?: string
  readonly at?: { readonly joining: Joining }
}

/** Joining at two nodes in one moment, on either store. */
export function joinSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`joining over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 9: one token of an issuer at two nodes in the same moment is one session', async (t) => {
      const { one, two, open } = await openHouse(t, place)
      for (let i = 0; i < 5; i++) {
        const before = (await open()).length
        const proof = { token: await issuer.token() }
        const tried = await Promise.allSettled([one, two, one, two].map(({ joinIn }) => joinIn({ join: 'ci', proof, csr: request() })))
        assert.deepEqual(tried.map(codeOf).sort(), ['in', 'join_refused', 'join_refused', 'join_refused'])
        assert.equal((await open()).length, before + 1)
      }
    })

    test('rule 9: one join token at two nodes in the same moment is one session', async (t) => {
      const { one, two, open, token } = await openHouse(t, place)
      const secret = await token()
      const tried = await Promise.allSettled([one, two, one, two].map(({ joinIn }) => joinIn({ token: secret, csr: request() })))
      assert.equal(tried.map(codeOf).filter((one) => one === 'in').length, 1, tried.map(codeOf).join())
      assert.equal((await open()).length, 1)
    })

    test('rule 9: a join token makes one key known, whoever else brings it in the same moment', async (t) => {
      const { one, two, open, shown, token, dana } = await openHouse(t, place)
      const register = await token()
      const asks = await Promise.all([one, two].map((at) => shown(0, { as: 'open', pair: generateKeyPairSync('ed25519'), register, at })))
      const tried = await Promise.allSettled([one.joinIn(asks[0]!), two.joinIn(asks[1]!)])
      assert.equal(tried.map(codeOf).filter((one) => one === 'in').length, 1, tried.map(codeOf).join())
      assert.equal((await open()).length, 1)
      const keys = await one.store.db.selectFrom('join_keys').select('made_by').execute()
      assert.deepEqual(keys, [{ made_by: dana.id }])
    })

    test('rule 9: two who hold one key and bring one count in the same moment never both stay: one session is open, or none', async (t) => {
      const { one, two, open, shown, uses } = await openHouse(t, place)
      let count = 0
      for (let i = 0; i < 5; i++) {
        const asks = await Promise.all([one, two].map((at) => shown(count, { at })))
        const before = await open()
        const tried = await Promise.allSettled([one.joinIn(asks[0]!), two.joinIn(asks[1]!)])
        const fresh = (await open()).filter((id) => !before.includes(id))
        assert.ok(fresh.length <= 1, `${fresh.length} sessions of one count: ${tried.map(codeOf).join()}`)
        const winner = tried.find((one) => one.status === 'fulfilled' && fresh.includes(one.value.session))
        if (winner?.status !== 'fulfilled') return
        await uses(winner.value)
        count = winner.value.joins!
      }
    })

    test('rule 6: a copy that shows itself while another join is under way ends that as well', async (t) => {
      const { one, two, open, shown, uses, onAppend } = await openHouse(t, place)
      const first = await one.joinIn(await shown(0))
      await uses(first)
      await uses(await one.joinIn(await shown(1)))
      const [under, copy] = [await shown(2), await shown(0, { at: two })]
      // The honest one is counted, and its session not there yet.
      let found: PromiseSettledResult<unknown> | undefined
      onAppend(async (draft) => {
        if (draft.type !== 'session.started' || found !== undefined) return
        found = { status: 'fulfilled', value: undefined }
        ;[found] = await Promise.allSettled([two.joinIn(copy)])
      })
      const [tried] = await Promise.allSettled([one.joinIn(under)])
      assert.equal(codeOf(found!), 'join_refused')
      assert.equal(codeOf(tried), 'conflict')
      assert.deepEqual(await open(), [])
    })

    test('a join whose session never began accuses nobody: the machine comes with the same count, and is in', async (t) => {
      const { one, open, shown, uses, onAppend, records } = await openHouse(t, place)
      await uses(await one.joinIn(await shown(0)))
      onAppend(async ({ type }) => {
        if (type === 'session.started') throw new ChaperoneError('audit_unavailable', 'The record cannot be written.')
      })
      await assert.rejects(one.joinIn(await shown(1)), { code: 'audit_unavailable' })
      onAppend(async () => {})
      const again = await one.joinIn(await shown(1))
      assert.equal(again.joins, 2)
      await uses(again)
      await uses(await one.joinIn(await shown(2)))
      assert.equal((await open()).length, 3)
      assert.ok(!records.some(({ type }) => type === 'credential.copied'))
    })

    test('an answer that got lost is asked for again, at the other node; what it brought is over', async (t) => {
      const { one, two, open, shown, uses } = await openHouse(t, place)
      await uses(await one.joinIn(await shown(0)))
      const lost = await one.joinIn(await shown(1))
      const again = await two.joinIn(await shown(1, { at: two }))
      assert.ok(!(await open()).includes(lost.session))
      await uses(again, two.sessions)
      // Now it was shown: whoever brings that count holds a copy.
      await assert.rejects(one.joinIn(await shown(1)), { code: 'join_refused' })
      assert.deepEqual(await open(), [])
    })

    test('recoveries are counted over all nodes, and a store that was set back accuses nobody', async (t) => {
      const { one, two, open, shown, uses } = await openHouse(t, place)
      const end = async () => one.sessions.end(await open(), 'elsewhere')
      let count = 0
      for (const at of [one, two, one]) {
        const joined = await at.joinIn(await shown(count, { at }))
        count = joined.joins!
        await uses(joined)
        await end()
      }
      await assert.rejects(two.joinIn(await shown(count, { at: two })), /away too often/)
      await one.store.write((trx) => trx.updateTable('join_keys').set({ joins: 1, recoveries_left: 2, newest_session: null }).execute())
      assert.equal((await two.joinIn(await shown(count, { at: two }))).joins, count + 1)
    })
  })
}
