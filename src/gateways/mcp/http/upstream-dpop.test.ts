import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { fakeOAuth } from '../../../../test/fakes/oauth-server.ts'
import type { Draft } from '../../../audit/record.ts'
import { mcpServerSpec } from '../../../catalog/mcp-server.ts'
import { type Clock, systemClock } from '../../../clock.ts'
import { openKeyring } from '../../../keys/keyring.ts'
import { loadRootKey } from '../../../keys/root-key.ts'
import { openStore } from '../../../store/open.ts'
import { openAssertions } from '../../../vault/assertions.ts'
import { openLogins } from '../../../vault/oauth.ts'
import { answerOf, harness, listen, openSession } from '../harness.fixture.ts'

const by = { actor: { id: 'usr_1', name: 'dana' } }
const call = (id: number) => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'look', arguments: {} } })
const MINUTE = 60_000

/** A gateway before a server whose tokens are bound to keys, and which checks every proof. */
async function place(t: TestContext, auth: object = { oauth: {} }) {
  const fake = await fakeOAuth()
  fake.knobs.bound = true
  let ahead = 0
  const clock: Clock = { now: () => systemClock.now() + ahead, at: (at, wake) => systemClock.at(at - ahead, wake) }
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-dpop-'))
  const store = await openStore({ dataDir: dir }, { clock })
  const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
  const records: Draft[] = []
  const audit = { append: async (draft: Draft) => ({ id: 'rec', seq: records.push(draft) }), addSecrets() {} }
  const assertions = openAssertions({ keyring, clock, places: { web: 'chaperone.test' } })
  const identify = (id: string) => ({ spiffe: `spiffe://acme.test/x/${id}`, name: id })
  const logins = openLogins({ store, keyring, clock, audit, reveal: async () => 'word', machine: { assertions, identify } })
  const spec = { url: fake.url, auth }
  const server = { id: 'res_wiki', name: 'wiki', spec: mcpServerSpec.parse(spec) }
  const given = await harness({ role: { allow: [{ mcp: 'any', tools: 'any' }] }, servers: { wiki: spec }, logins, clock })
  t.after(async () => {
    await given.close()
    await fake.close()
    await store.close()
    await rm(dir, { recursive: true, force: true })
    await rm(`${dir}.key`, { force: true })
  })
  return {
    fake,
    records,
    /** when the world and the server are at another time than we are */
    advance(ms: number) {
      ahead += ms
      for (const { knobs } of Object.values(fake.proofs)) knobs.aheadMs += ms
    },
    async logIn() {
      const { url } = await logins.begin(server, { subject: '*', identity: 'usr_1', redirect: 'http://127.0.0.1:4711/callback', by })
      const back = Object.fromEntries(fake.approve(url)) as { state: string }
      await logins.finish(server, back, { identity: 'usr_1', by })
      return new URL(url)
    },
    async calls(...ids: number[]) {
      const session = await openSession(given, 'wiki')
      const answers: unknown[] = []
      for (const id of ids) {
        const { result, error } = await answerOf(await given.post('wiki', call(id), session))
        answers.push(result ? result.content[0].text : error.data.reason)
      }
      return answers
    },
    posted: () => fake.of('/mcp').filter(({ headers }) => headers.authorization !== undefined),
  }
}

test('rule 5: a token that is bound to a key is never shown as a bearer token, and each request has a proof of its own', async (t) => {
  const { fake, logIn, calls, posted, records } = await place(t)
  const page = await logIn()
  assert.deepEqual(await calls(1, 2), ['done', 'done'])
  assert.deepEqual([fake.proofs.login.complaints, fake.proofs.mcp.complaints], [[], []])
  assert.ok(posted().length >= 4 && posted().every(({ headers }) => headers.authorization === `DPoP ${fake.tokens[0]!.access}`))
  assert.equal(fake.proofs.mcp.accepted.length, posted().length)
  const keys = [...fake.proofs.login.accepted, ...fake.proofs.mcp.accepted].map((proof) => decodeProtectedHeader(proof).jwk!.x)
  assert.equal(new Set(keys).size, 1, 'one key for the login')
  assert.match(page.searchParams.get('dpop_jkt') ?? '', /^[\w-]{43}$/, 'the code is bound as well')
  const elsewhere = fake.seen.filter(({ path, headers }) => headers.dpop !== undefined && path !== '/token' && path !== '/mcp')
  assert.deepEqual(elsewhere, [], 'a proof goes nowhere else')
  assert.doesNotMatch(JSON.stringify(records), /"d":|eyJ/)
})

test('each login has a key of its own, and a refresh is proven with the key of its login', async (t) => {
  const { fake, logIn, calls, advance } = await place(t)
  const keyOf = (proof: string | undefined) => decodeProtectedHeader(proof!).jwk!.x
  await logIn()
  await calls(1)
  advance(3_590_000)
  assert.deepEqual(await calls(2), ['done'])
  assert.equal(fake.tokens.length, 2)
  const [first, refreshed] = fake.proofs.login.accepted
  assert.equal(keyOf(refreshed), keyOf(first))
  await logIn()
  assert.notEqual(keyOf(fake.proofs.login.accepted[2]), keyOf(first))
})

test('nonces: asked for at both servers, sent again once, kept, and replaced by any answer', async (t) => {
  const { fake, logIn, calls, posted } = await place(t)
  for (const { knobs } of Object.values(fake.proofs)) Object.assign(knobs, { nonce: 'first', rotate: true })
  await logIn()
  assert.deepEqual(await calls(1, 2, 3), ['done', 'done', 'done'])
  assert.deepEqual(fake.proofs.login.complaints, ['nonce'])
  assert.deepEqual(fake.proofs.mcp.complaints, ['nonce'], 'every later answer brought the next one')
  assert.equal(posted().length, fake.proofs.mcp.accepted.length + 1)
  const nonces = fake.proofs.mcp.accepted.map((proof) => decodeJwt(proof).nonce)
  assert.equal(new Set(nonces).size, nonces.length)
  // Sessions end, and their servers: what is kept is dropped by a server that begins anew.
  fake.proofs.mcp.knobs.nonce = 'of another process'
  assert.deepEqual(await calls(4), ['done'])
})

test('rule 11: a server that wants another nonce each time is asked twice and no more', async (t) => {
  const { fake, logIn, calls, posted } = await place(t)
  await logIn()
  let count = 0
  Object.defineProperty(fake.proofs.mcp.knobs, 'nonce', { get: () => `never-${count++}`, set() {} })
  const before = posted().length
  const [answer] = await calls(1).catch((error) => [String(error)])
  assert.notEqual(answer, 'done')
  // The handshake in each era that is tried: each is sent twice at the most.
  assert.ok(posted().length - before <= 8, `${posted().length - before} requests`)
})

test('a server whose clock is some minutes off is followed, by its own time; one that is further off is not', async (t) => {
  const { fake, logIn, calls, posted } = await place(t)
  fake.proofs.login.knobs.aheadMs = -4 * MINUTE
  fake.proofs.mcp.knobs.aheadMs = 5 * MINUTE
  await logIn()
  assert.deepEqual(await calls(1, 2), ['done', 'done'])
  assert.deepEqual([fake.proofs.login.complaints, fake.proofs.mcp.complaints], [['iat'], ['iat']], 'once each')
  fake.proofs.mcp.knobs.aheadMs = 30 * MINUTE
  const before = posted().length
  const answers = await calls(3).catch(() => ['refused'])
  assert.notDeepEqual(answers, ['done'])
  assert.ok(posted().length - before <= 8)
})

test('rule 5: a login that was bound is over when a refresh gives a bearer token in its place', async (t) => {
  const { fake, logIn, calls, advance, posted, records } = await place(t)
  await logIn()
  await calls(1)
  fake.knobs.boundType = 'Bearer'
  advance(3_600_001)
  const answers = await calls(2).catch(() => ['upstream_login_required'])
  assert.deepEqual(answers, ['upstream_login_required'])
  assert.ok(posted().every(({ headers }) => headers.authorization?.startsWith('DPoP ')))
  assert.ok(records.some(({ data }) => data?.what === 'ended'))
})

test('a document that says `required` takes no bearer token, and one that says `never` sends no proof', async (t) => {
  const strict = await place(t, { oauth: { dpop: 'required' } })
  strict.fake.knobs.bound = false
  await assert.rejects(strict.logIn(), /not bound to a key/)
  const never = await place(t, { oauth: { dpop: 'never' } })
  await never.logIn()
  assert.equal(never.fake.of('/token').at(-1)?.headers.dpop, undefined)
  assert.deepEqual(await never.calls(1), ['done'])
})

test('a server that offers it and gives bearer tokens all the same is taken at its word, unless the resource wants bound ones', async (t) => {
  const { fake, logIn, calls, posted } = await place(t)
  fake.knobs.boundType = 'Bearer'
  fake.knobs.resourceMetadata = (document) => ({ ...document, dpop_bound_access_tokens_required: true })
  await assert.rejects(logIn(), /not bound to a key/)
  assert.deepEqual(posted(), [])
  fake.knobs.serverMetadata = (document) => ({ ...document, dpop_signing_alg_values_supported: ['PS256'] })
  await assert.rejects(logIn(), /takes no proofs with ES256/)
  fake.knobs.resourceMetadata = (document) => document
  fake.knobs.bound = false
  await logIn()
  assert.deepEqual(await calls(1), ['done'])
  assert.equal(posted().at(-1)?.headers.dpop, undefined)
})

test('an authorization server that would bind tokens binds none for a resource that says nothing of it', async (t) => {
  const { fake, logIn, calls, posted } = await place(t)
  fake.knobs.bearerResource = true
  const page = await logIn()
  assert.equal(page.searchParams.get('dpop_jkt'), null)
  assert.equal(fake.of('/token').at(-1)?.headers.dpop, undefined)
  assert.deepEqual(await calls(1), ['done'])
  assert.equal(posted().at(-1)?.headers.authorization, `Bearer ${fake.tokens[0]!.access}`)
  fake.knobs.resourceMetadata = (document) => ({ ...document, dpop_signing_alg_values_supported: ['ES256'] })
  await logIn()
  assert.notEqual(fake.of('/token').at(-1)?.headers.dpop, undefined)
})

test("Chaperone's own login is bound to a key that stays in memory", async (t) => {
  const { fake, calls, posted } = await place(t, { client_credentials: { client_id: 'chap', client_secret: { secret: 'word' } } })
  for (const { knobs } of Object.values(fake.proofs)) knobs.nonce = 'wanted'
  assert.deepEqual(await calls(1), ['done'])
  assert.ok(posted().every(({ headers }) => headers.authorization?.startsWith('DPoP ')))
  assert.deepEqual([fake.proofs.login.complaints, fake.proofs.mcp.complaints], [['nonce'], ['nonce']])
  assert.equal(fake.tokens.length, 1)
})

test('what a thief has of a token and a proof that passed by opens nothing: replayed, for another token, or with another key', async (t) => {
  const { fake, logIn, calls } = await place(t)
  await logIn()
  const first = fake.tokens[0]!.access
  await calls(1)
  const [proof] = fake.proofs.mcp.accepted
  await logIn()
  await calls(2)
  const [other] = fake.proofs.mcp.accepted.slice(-1)
  const second = fake.tokens[1]!.access
  const asked = async (token: string, shown?: string) => {
    const headers = { authorization: `DPoP ${token}`, 'content-type': 'application/json', ...(shown === undefined ? {} : { dpop: shown }) }
    return (await fetch(fake.url, { method: 'POST', headers, body: JSON.stringify(call(9)) })).status
  }
  assert.deepEqual([await asked(first, proof), await asked(second, proof), await asked(first, other), await asked(first)], [401, 401, 401, 401])
  assert.deepEqual(fake.proofs.mcp.complaints, ['jti', 'ath', 'ath', '0 proofs'])
  const bearer = await fetch(fake.url, { method: 'POST', headers: { authorization: `Bearer ${first}` }, body: JSON.stringify(call(9)) })
  assert.equal(bearer.status, 401)
})

test('rule 5: a redirect takes neither a token nor a proof to another origin', async (t) => {
  const { fake, logIn, calls } = await place(t)
  let reached = 0
  const elsewhere = createServer((_, response) => {
    reached++
    response.end()
  })
  const url = await listen(elsewhere)
  t.after(() => void elsewhere.close())
  await logIn()
  const [server] = await Promise.all([calls(1)])
  assert.deepEqual(server, ['done'])
  fake.knobs.away = url
  await calls(2).catch(() => {})
  await assert.rejects(logIn())
  assert.equal(reached, 0)
})
