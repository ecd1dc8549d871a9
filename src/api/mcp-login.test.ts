import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type FakeOAuth, fakeOAuth } from '../../test/fakes/oauth-server.ts'
import { FACTOR_FRESH_MS } from '../access/administration.ts'
import { csr, openHouse } from './house.fixture.ts'
import type { UpstreamCredentials } from './upstream-credentials-contract.ts'

const REDIRECT = 'http://127.0.0.1:4711/callback'

/** Two servers that want OAuth: `wiki` by one login for everybody, `mail` by one of each; boris may use both. */
async function place(t: TestContext) {
  const house = await openHouse(t)
  const fake: FakeOAuth = await fakeOAuth()
  t.after(() => fake.close())
  const dana = await house.signIn('dana')
  const text = `
kind: mcp
name: wiki
spec: { url: "${fake.url}", auth: { oauth: {} } }
---
kind: mcp
name: mail
spec: { url: "${fake.url}", auth: { oauth: { for: each } } }
---
kind: mcp
name: plain
spec: { url: "${fake.url}" }
---
kind: role
name: mailer
spec: { allow: [ { mcp: mail, tools: any }, { mcp: wiki, tools: any } ] }
---
kind: user
name: boris
spec: { roles: [mailer] }
`
  const { status, value } = await house.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })
  assert.equal(status, 200, JSON.stringify(value))
  const boris = await house.signIn('boris', { factorGiven: false })
  const begin = (session: typeof dana, name: string) => house.ask<{ url: string }>(session, 'POST', `/v1/mcp/${name}/login`, { redirect: REDIRECT })
  const finish = (session: typeof dana, url: string) =>
    house.ask<{ server: string; issuer: string }>(session, 'POST', '/v1/mcp-logins/finish', Object.fromEntries(fake.approve(url)))
  const of = async (name: string, chain: readonly { identity: string }[]) => {
    const { resource, spec } = house.state.current().find('mcp', name)!
    return (await house.parts.logins.of({ id: resource.id, name, spec: spec as never }, chain).token())?.value
  }
  return { ...house, fake, dana, boris, begin, finish, of }
}

test('an administrator logs in for everybody, with a second factor, and the record holds no secret of it', async (t) => {
  const { fake, dana, begin, finish, of, records, clock, ask } = await place(t)
  records.length = 0
  const { value, status } = await begin(dana, 'wiki')
  assert.equal(status, 200, JSON.stringify(value))
  const done = await finish(dana, value.url)
  assert.deepEqual([done.status, done.value.server, done.value.issuer], [200, 'wiki', fake.issuer])
  assert.equal(await of('wiki', [{ identity: 'anybody' }]), fake.tokens[0]!.access)
  assert.deepEqual(
    records.map(({ type, data }) => [type, data?.what]),
    [
      ['action.intent', undefined],
      ['upstream.login', 'begun'],
      ['action.outcome', undefined],
      ['action.intent', undefined],
      ['upstream.login', 'finished'],
      ['action.outcome', undefined],
    ],
  )
  assert.doesNotMatch(JSON.stringify(records), /access-|refresh-|code-/)
  clock.advance(FACTOR_FRESH_MS + 1)
  assert.equal((await begin(dana, 'wiki')).code, 'factor_required')
  assert.equal((await ask(dana, 'DELETE', '/v1/mcp/wiki/login')).code, 'factor_required')
})

test('a person logs in for himself where each does, and for nobody else', async (t) => {
  const { fake, dana, boris, begin, finish, of, ask } = await place(t)
  assert.equal((await begin(boris, 'wiki')).status, 403)
  assert.equal((await begin(boris, 'nothing')).status, 403, 'what he may not use is not there for him')
  const { value } = await begin(boris, 'mail')
  assert.equal((await finish(dana, value.url)).code, 'not_found', 'what another began')
  assert.equal((await finish(boris, value.url)).status, 200)
  const chain = boris.principal.chain
  assert.equal(await of('mail', chain), fake.tokens[0]!.access)
  assert.equal(await of('mail', [...chain, { identity: 'agt_1' }]), fake.tokens[0]!.access, 'his agents use it')
  assert.equal(await of('mail', dana.principal.chain), undefined)
  assert.equal((await ask(boris, 'DELETE', '/v1/mcp/mail/login')).status, 200)
  assert.equal(await of('mail', chain), undefined)
  assert.equal((await ask(boris, 'DELETE', '/v1/mcp/mail/login')).code, 'not_found')
})

test('an agent of a person does not log in for him: it could put an account of its own in the place of his', async (t) => {
  const { boris, begin, ask, signIn, records } = await place(t)
  const { value } = await ask<{ session: string }>(boris, 'POST', '/v1/clients', { client: 'claude-code', csr: csr() })
  const started = records.find((record) => record.type === 'session.started' && record.session === value.session)
  const chain = started!.chain!.map(({ id, delegation }) => ({ identity: id, ...(delegation === undefined ? {} : { delegation }) }))
  const agent = await signIn('boris/claude-code', { chain, how: 'client', factorGiven: false })
  assert.ok([400, 403].includes((await begin(agent, 'mail')).status))
})

test('a server without OAuth in its document is said to have none', async (t) => {
  const { dana, begin } = await place(t)
  const { code, value } = await begin(dana, 'plain')
  assert.equal(code, 'usage')
  assert.match(value.error!.message, /auth/)
})

test('the list of credentials says which login is bound to a key, is used by nobody, is over, or was given for another document', async (t) => {
  const { fake, dana, begin, finish, clock, ask, signIn } = await place(t)
  fake.knobs.bound = true
  fake.proofs.login.knobs.aheadMs = clock.now() - Date.now()
  const rows = async (who = dana) => {
    const { value } = await ask<UpstreamCredentials>(who, 'GET', '/v1/upstream-credentials')
    return value.credentials.map(({ name, over = false, bound = false, hints }) => [name, over, bound, hints.join()])
  }
  await finish(dana, (await begin(dana, 'wiki')).value.url)
  assert.deepEqual(await rows(), [['mcp/wiki', false, true, '']])
  clock.advance(31 * 24 * 3_600_000)
  const later = await signIn('dana')
  assert.deepEqual(await rows(later), [['mcp/wiki', false, true, 'not used for 31 days']])
  const text = `kind: mcp\nname: wiki\nspec: { url: "${fake.url}", auth: { oauth: { dpop: never } } }`
  assert.equal((await ask(later, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })).status, 200)
  assert.deepEqual(await rows(later), [
    ['mcp/wiki', true, true, 'it was given for what the document said before; log in again: chaperone mcp login wiki'],
  ])
})
