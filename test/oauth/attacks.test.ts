import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { SignJWT } from 'jose'
import { findIdentity } from '../../src/identity/directory.ts'
import { begin, CALLBACK, CLAUDE, type Flow, type Rig, rig, type Tokens } from './rig.ts'

interface Signed {
  readonly flow: Flow
  readonly code: string
  readonly tokens: Tokens
}

const exchange = ({ token }: Rig, flow: Flow, code: string, more: Record<string, string> = {}) =>
  token({ grant_type: 'authorization_code', client_id: CLAUDE, redirect_uri: CALLBACK, code, code_verifier: flow.verifier, ...more })

async function signedIn(r: Rig, more: Record<string, string | undefined> = {}, fields: Record<string, string> = {}): Promise<Signed> {
  const flow = begin({ resource: r.resource(), ...more })
  const browser = await r.browser('boris')
  const back = await browser.agree(flow, fields)
  const code = back.searchParams.get('code')!
  return { flow, code, tokens: await exchange(r, flow, code) }
}

const refresh = ({ token }: Rig, refresh_token: string, more: Record<string, string> = {}) =>
  token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token, ...more })

describe('attacks on OAuth', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) })
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  test('a token of one server opens no other, not the endpoint of all, and nothing else', async () => {
    const { tokens } = await signedIn(r)
    assert.equal((await r.mcp(tokens.access_token)).status, 200)
    for (const server of ['other', 'chaperone', 'nothing']) {
      const refused = await r.mcp(tokens.access_token, server)
      assert.equal(refused.status, 401, server)
      assert.match(String(refused.headers['www-authenticate']), new RegExp(`error="invalid_token".*/mcp/${server}"`))
    }
    const bearer = { authorization: `Bearer ${tokens.access_token}` }
    assert.equal((await r.get('/mcp', bearer)).status, 401)
    assert.equal((await r.get('/metrics/', bearer)).status, 401)
  })

  test('a token is taken from the header and from nowhere else', async () => {
    const { tokens } = await signedIn(r)
    assert.equal((await r.get(`/mcp/files?access_token=${tokens.access_token}`)).status, 401)
    assert.equal((await r.get('/mcp/files', { cookie: `access_token=${tokens.access_token}` })).status, 401)
  })

  test('GET without a token leads to the sign-in, before the method is looked at', async () => {
    const answered = await r.mcp(undefined, 'files', 'GET')
    assert.equal(answered.status, 401)
    assert.match(String(answered.headers['www-authenticate']), /resource_metadata=/)
  })

  test('rule 8: metadata says the same of servers that exist and of others', async () => {
    const there = await r.get('/.well-known/oauth-protected-resource/mcp/files', {
      origin: 'https://elsewhere.example.com',
      'mcp-protocol-version': '1999-01-01',
    })
    const none = await r.get('/.well-known/oauth-protected-resource/mcp/nothing')
    assert.deepEqual([there.status, none.status], [200, 200])
    assert.equal(there.text.replaceAll('files', 'X'), none.text.replaceAll('nothing', 'X'))
    assert.equal(there.headers['access-control-allow-origin'], '*')
    assert.equal((await r.get('/.well-known/oauth-protected-resource')).status, 200)
    assert.equal((await r.mcp(undefined, 'nothing')).status, 401)
  })

  test('a code works once; shown again, what came of it is locked', async () => {
    const { flow, code, tokens } = await signedIn(r)
    assert.equal((await exchange(r, flow, code)).error, 'invalid_grant')
    assert.notEqual((await r.mcp(tokens.access_token)).status, 200)
    assert.equal((await refresh(r, tokens.refresh_token)).error, 'invalid_grant')
  })

  test('of two that bring one code at the same moment, one at most gets tokens, and they are worth nothing', async () => {
    const flow = begin({ resource: r.resource() })
    const back = await (await r.browser('boris')).agree(flow)
    const answers = await Promise.all([1, 2].map(() => exchange(r, flow, back.searchParams.get('code')!)))
    assert.ok(answers.filter(({ status }) => status === 200).length <= 1)
  })

  test('a refresh token works once; shown again, its session is locked for both, and it is on record', async () => {
    const { tokens } = await signedIn(r)
    const next = await refresh(r, tokens.refresh_token)
    assert.equal(next.status, 200, JSON.stringify(next))
    assert.notEqual(next.refresh_token, tokens.refresh_token)
    assert.equal((await r.mcp(next.access_token)).status, 200)
    assert.equal((await refresh(r, tokens.refresh_token)).error, 'invalid_grant')
    assert.notEqual((await r.mcp(next.access_token)).status, 200)
    assert.equal((await refresh(r, next.refresh_token)).error, 'invalid_grant')
    assert.ok(r.records.some(({ type, actor }) => type === 'credential.copied' && actor?.name === 'boris/claude-code'))
    assert.ok(r.records.some(({ type, data }) => type === 'lock.made' && (data as { kind: string }).kind === 'session'))
  })

  test('of two that refresh with one token at the same moment, one at most goes on', async () => {
    const { tokens } = await signedIn(r)
    const answers = await Promise.all([1, 2].map(() => refresh(r, tokens.refresh_token)))
    assert.ok(answers.filter(({ status }) => status === 200).length <= 1, JSON.stringify(answers.map(({ status }) => status)))
    for (const { status, access_token } of answers) if (status === 200) assert.notEqual((await r.mcp(access_token)).status, 200)
  })

  test('a refresh token of one client is none of another, and opens no other resource', async () => {
    const { tokens } = await signedIn(r)
    assert.equal((await refresh(r, tokens.refresh_token, { client_id: 'console' })).error, 'invalid_grant')
    assert.equal((await refresh(r, tokens.refresh_token, { resource: r.resource('other') })).error, 'invalid_target')
    const less = await refresh(r, tokens.refresh_token, { scope: 'mcp:read' })
    assert.equal(less.error, 'invalid_scope', 'a token that says less than it opens is none')
    assert.equal((await refresh(r, tokens.refresh_token)).status, 200)
  })

  test('PKCE is neither left out nor weakened', async () => {
    const browser = await r.browser('boris')
    for (const more of [
      { code_challenge: undefined, code_challenge_method: undefined },
      { code_challenge_method: 'plain' },
      { code_challenge_method: undefined },
    ]) {
      const sent = await browser.get(`/oauth/authorize?${begin({ resource: r.resource(), ...more }).query}`)
      assert.match(sent.headers.location ?? '', /error=invalid_request/, JSON.stringify(more))
    }
    const flow = begin({ resource: r.resource() })
    const back = await browser.agree(flow)
    const code = back.searchParams.get('code')!
    assert.equal((await exchange(r, { ...flow, verifier: 'x'.repeat(43) }, code)).error, 'invalid_grant')
  })

  test('an answer goes only to an address of the client, with any port on this computer and no other freedom', async () => {
    const browser = await r.browser('boris')
    const to = (redirect_uri: string, client_id = CLAUDE) =>
      browser.get(`/oauth/authorize?${begin({ resource: r.resource(), redirect_uri, client_id }).query}`)
    for (const good of ['http://localhost:1/callback', 'http://127.0.0.1:65535/callback', 'http://localhost/callback'])
      assert.match((await to(good)).headers.location ?? '', /^\/oauth\/consent\//, good)
    for (const bad of [
      'http://localhost:1/callback/',
      'http://localhost:1/callback?x=1',
      'http://localhost:1/other',
      'http://[::1]:1/callback',
      'https://localhost:1/callback',
      'http://localhost.example.com:1/callback',
      'http://localhost@example.com/callback',
      'http://example.com@localhost/callback',
      'http://127.0.0.2/callback',
      'http://2130706433/callback',
      'javascript:alert(1)',
      'https://console.example.com/back',
    ]) {
      const answered = await to(bad)
      assert.equal(answered.status, 400, `${bad} ${answered.headers.location}`)
      assert.equal(answered.headers.location, undefined, bad)
    }
    assert.equal((await to('https://console.example.com:444/back', 'console')).status, 400)
    assert.match((await to('https://console.example.com/back', 'console')).headers.location ?? '', /^\/oauth\/consent\//)
  })

  test('the code is bound to the address that it was sent to', async () => {
    const flow = begin({ resource: r.resource() })
    const back = await (await r.browser('boris')).agree(flow)
    const other = await exchange(r, flow, back.searchParams.get('code')!, { redirect_uri: 'http://localhost:5/callback' })
    assert.equal(other.error, 'invalid_grant')
  })

  test('an address of somebody else is no resource here', async () => {
    const browser = await r.browser('boris')
    for (const resource of [
      'https://elsewhere.example.com/mcp/files',
      `${r.resource()}/`,
      `${r.resource()}#x`,
      `${r.resource()}?x=1`,
      r.resource('../metrics'),
      `http://${r.web}/mcp/files`,
      // What a URL parser would put right.
      `https:${r.web}/mcp/files`,
      `https:\\\\${r.web}\\mcp\\files`,
      `https://${r.web}/mcp/./files`,
      `https://${r.web}/mcp/other/../files`,
      `https://${r.web}/mcp/%66iles`,
      `https://${r.web}/MCP/files`,
      `https://x@${r.web}/mcp/files`,
      ` ${r.resource()}`,
      `${r.resource()}\n`,
    ]) {
      const sent = await browser.get(`/oauth/authorize?${begin({ resource }).query}`)
      assert.match(sent.headers.location ?? '', /error=invalid_target/, resource)
      assert.match(sent.headers.location ?? '', /iss=https/, resource)
    }
  })

  test('one resource at a time: what the person reads is all that there is', async () => {
    const sent = await (await r.browser('boris')).get(
      `/oauth/authorize?${begin({ resource: r.resource() }).query}&resource=${encodeURIComponent(r.resource('other'))}`,
    )
    assert.match(sent.headers.location ?? '', /error=invalid_target/)
  })

  test('the answer comes in the query and in no other way, and what belongs to OpenID Connect is not looked at', async () => {
    const browser = await r.browser('boris')
    for (const response_mode of ['fragment', 'form_post', 'web_message', 'jwt']) {
      const sent = await browser.get(`/oauth/authorize?${begin({ resource: r.resource(), response_mode }).query}`)
      assert.doesNotMatch(sent.headers.location ?? '', /consent/, response_mode)
    }
    for (const response_type of ['token', 'id_token', 'code id_token', 'none']) {
      const sent = await browser.get(`/oauth/authorize?${begin({ resource: r.resource(), response_type }).query}`)
      assert.doesNotMatch(sent.headers.location ?? '', /consent/, response_type)
    }
    const back = await browser.agree(begin({ resource: r.resource(), nonce: 'n', max_age: '1', prompt: 'login', scope: 'openid offline_access mcp' }))
    assert.ok(back.searchParams.get('code'))
    const silent = await browser.get(`/oauth/authorize?${begin({ resource: r.resource(), prompt: 'none' }).query}`)
    assert.match(silent.headers.location ?? '', /error=consent_required/)
  })

  test('an unknown client gets a page and no redirect', async () => {
    const sent = await (await r.browser('boris')).get(`/oauth/authorize?${begin({ client_id: 'nobody' }).query}`)
    assert.equal(sent.status, 400)
    assert.equal(sent.headers.location, undefined)
  })

  test('nobody registers a client unless that is switched on', async () => {
    assert.notEqual((await r.post('/oauth/register', {})).status, 201)
  })

  test('consent is given in the browser where it began, by its own form, with a second factor the first time', async () => {
    const browser = await r.browser('boris')
    const flow = begin({ resource: r.resource('other') })
    const page = await browser.open(flow)
    // Another browser of the same person, to which somebody sent the address.
    const victim = await r.browser('boris')
    assert.equal((await victim.get(page.path)).status, 404)
    assert.equal((await browser.answer(page, { verdict: 'agree', token: 'wrong' })).status, 403)
    const none = await browser.answer(page, { verdict: 'agree' })
    assert.equal(none.status, 403)
    assert.match(none.text, /Give a code/)
    const foreign = await r.post(
      page.path,
      { verdict: 'agree' },
      { origin: 'https://elsewhere.example.com', cookie: `__Host-chaperone-session=${browser.cookies.get('__Host-chaperone-session')}` },
    )
    assert.equal(foreign.status, 403)
    const framed = page.page.headers
    assert.match(String(framed['content-security-policy']), /frame-ancestors 'none'/)
  })

  test('the page names the client, who vouches for it, and where the answer goes; and warns of this computer', async () => {
    const page = await (await r.browser('boris')).open(begin({ resource: r.resource() }))
    for (const text of ['Claude Code', 'claude.ai', 'localhost:41234', 'Any program on this computer', 'boris/claude-code'])
      assert.ok(page.page.text.includes(text), text)
  })

  test('who agrees to one thing has not agreed to another', async () => {
    const browser = await r.browser('boris')
    const page = await browser.open(begin({ resource: r.resource() }))
    const other = await browser.answer(page, { verdict: 'agree', profile: 'reading', code: await r.code('boris') })
    assert.equal(other.status, 409)
    assert.match(other.text, /Read it again/)
  })

  test("an agent of somebody else is not there, and neither is one's own that is none", async () => {
    const browser = await r.browser('boris')
    for (const agent of ['erik/claude-code', 'dana', 'boris', 'boris/other']) {
      const page = await browser.open(begin({ resource: r.resource() }))
      assert.equal((await browser.answer(page, { verdict: 'agree', agent })).status, 404, agent)
    }
  })

  test('a no is told to the client, and on record', async () => {
    const browser = await r.browser('boris')
    const answered = await browser.answer(await browser.open(begin({ resource: r.resource() })), { verdict: 'refuse' })
    const next = /url=([^"]+)"/.exec(answered.text)![1]!
    const back = new URL((await browser.get(next)).headers.location!)
    assert.equal(back.searchParams.get('error'), 'access_denied')
    assert.equal(back.searchParams.get('iss'), `https://${r.web}`)
    assert.ok(r.records.some(({ type }) => type === 'delegation.refused'))
  })

  test('what was agreed to is remembered while its person is signed in: the second time needs no factor', async () => {
    await signedIn(r)
    const flow = begin({ resource: r.resource() })
    const back = await (await r.browser('boris')).agree(flow)
    assert.ok(back.searchParams.get('code'))
  })

  test('forged tokens are none: unsigned, by the public key, by another key, of another issuer', async () => {
    const { tokens } = await signedIn(r)
    const [header, payload, signature] = tokens.access_token.split('.') as [string, string, string]
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString())
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const verifiers = await r.home.server.parts.keyring.verifiers('tokens')
    const pem = verifiers[0]!.publicKey.export({ type: 'spki', format: 'pem' })
    const hs = `${part({ alg: 'HS256', typ: 'at+jwt', kid })}.${payload}`
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const other = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid }).sign(privateKey)
    const signer = await r.home.server.parts.keyring.signer('tokens')
    const bySigner = (typ: string, more: object) =>
      new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg: 'ES256', typ, kid: signer.id }).sign(signer.privateKey)
    const forged = [
      `${part({ alg: 'none', typ: 'at+jwt', kid })}.${payload}.`,
      `${hs}.${createHmac('sha256', pem as string)
        .update(hs)
        .digest('base64url')}`,
      other,
      `${header}.${part({ ...claims, aud: r.resource('other') })}.${signature}`,
      await bySigner('JWT', {}),
      await bySigner('at+jwt', { iss: `https://${r.web}` }),
      await bySigner('at+jwt', { aud: [r.resource(), r.resource('other')] }),
      await bySigner('at+jwt', { cnf: { 'x5t#S256': 'A'.repeat(43) } }),
      await bySigner('at+jwt', { cnf: { jkt: 'x' } }),
    ]
    for (const [i, token] of forged.entries()) assert.equal((await r.mcp(token)).status, 401, String(i))
    assert.equal((await r.mcp(tokens.access_token)).status, 200)
  })

  test('a rotated key is believed for as long as its tokens live', async () => {
    const { tokens } = await signedIn(r)
    await r.home.server.parts.keyring.rotate('tokens', 900_000)
    assert.equal((await r.mcp(tokens.access_token)).status, 200)
    const next = await refresh(r, tokens.refresh_token)
    assert.equal((await r.mcp(next.access_token)).status, 200)
  })

  test('rule 5: a lock on the person, a revoked delegation and an ended session each end access and refresh at once', async () => {
    const { parts } = r.home.server
    const agent = (await findIdentity(parts.store.db, { name: 'boris/claude-code' }))!
    const sessionOf = (tokens: Tokens) =>
      (JSON.parse(Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString()) as { chaperone: { session: string } }).chaperone.session

    const first = await signedIn(r)
    await parts.sessions.end(sessionOf(first.tokens), 'logout')
    assert.notEqual((await r.mcp(first.tokens.access_token)).status, 200)
    assert.equal((await refresh(r, first.tokens.refresh_token)).error, 'invalid_grant')

    const second = await signedIn(r)
    const [standing] = await parts.store.db
      .selectFrom('delegations')
      .selectAll()
      .where('to_id', '=', agent.id)
      .where('ended_at', 'is', null)
      .orderBy('id', 'desc')
      .execute()
    await r.boris.api.call('POST', `/v1/delegations/${standing!.id}/revoke`, {}).catch(() => undefined)
    const { epoch } = await parts.store.reduce((trx) =>
      trx.updateTable('delegations').set({ ended_at: Date.now() }).where('to_id', '=', agent.id).execute(),
    )
    await parts.raised(epoch)
    assert.notEqual((await r.mcp(second.tokens.access_token)).status, 200)
    assert.equal((await refresh(r, second.tokens.refresh_token)).error, 'invalid_grant')

    const third = await signedIn(r)
    assert.equal((await r.mcp(third.tokens.access_token)).status, 200)
    await r.home.dana.api.call('POST', '/v1/factor', { code: r.home.dana.code() })
    const lock = await r.home.dana.api.call<{ id: string }>('POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'test' })
    assert.notEqual((await r.mcp(third.tokens.access_token)).status, 200)
    assert.equal((await refresh(r, third.tokens.refresh_token)).error, 'invalid_grant')
    assert.ok(lock)
  })
})
