import assert from 'node:assert/strict'
import { request } from 'node:https'
import { before, describe, test } from 'node:test'
import { claimsOf } from '../../src/identity/credential.ts'
import { newId } from '../../src/ids.ts'
import { tampered } from '../parts/tampered.ts'
import { type Browser, begin, CALLBACK, CLAUDE, type Rig, rig, type Tokens } from './rig.ts'

describe('what was agreed to is taken back', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) })
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  const signIn = async (browser?: Browser): Promise<Tokens> => {
    const flow = begin({ resource: r.resource() })
    const back = await (browser ?? (await r.browser('boris'))).agree(flow)
    const code = back.searchParams.get('code')!
    return r.token({ grant_type: 'authorization_code', client_id: CLAUDE, redirect_uri: CALLBACK, code, code_verifier: flow.verifier })
  }
  const refresh = (refresh_token: string) => r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token })
  const lock = async (kind: string, target: string) => {
    await r.home.dana.api.call('POST', '/v1/factor', { code: r.home.dana.code() })
    return r.home.dana.api.call<{ id: string }>('POST', '/v1/locks', { kind, target, reason: 'test' })
  }
  const sessionOf = async (browser: Browser) => {
    const { session } = await r.home.server.parts.browsers.open(browser.cookies.get('__Host-chaperone-session')!)
    return session.id
  }

  test('an access token that is given back opens nothing any more, and neither does its refresh token (RFC 7009)', async () => {
    const tokens = await signIn()
    assert.equal((await r.mcp(tokens.access_token)).status, 200)
    assert.equal((await r.post('/oauth/revoke', { client_id: CLAUDE, token: tokens.access_token })).status, 200)
    assert.equal((await r.mcp(tokens.access_token)).status, 401)
    assert.equal((await refresh(tokens.refresh_token)).error, 'invalid_grant')
  })

  test('so does a refresh token that is given back, and the access token with it', async () => {
    const tokens = await signIn()
    const hint = { token_type_hint: 'refresh_token' }
    assert.equal((await r.post('/oauth/revoke', { client_id: CLAUDE, token: tokens.refresh_token, ...hint })).status, 200)
    assert.equal((await r.mcp(tokens.access_token)).status, 401)
    assert.equal((await refresh(tokens.refresh_token)).error, 'invalid_grant')
  })

  test('nobody gives back what is another client’s, and what is no token is no error', async () => {
    const { access_token } = await signIn()
    for (const token of [access_token, tampered(access_token), 'nothing', 'e30.e30.e30'])
      assert.equal((await r.post('/oauth/revoke', { client_id: 'console', token })).status, 200)
    assert.equal((await r.mcp(access_token)).status, 200)
    assert.equal((await r.post('/oauth/revoke', { client_id: 'nobody', token: access_token })).status, 401)
    assert.equal((await r.mcp(access_token)).status, 200)
  })

  test('rule 6: a lock on the browser in which he agreed falls on all that came of it; signing out there does not', async () => {
    const [stolen, other] = [await r.browser('boris'), await r.browser('boris')]
    const [mine, elsewhere] = [await signIn(stolen), await signIn(other)]
    for (const { access_token } of [mine, elsewhere]) assert.equal((await r.mcp(access_token)).status, 200)
    // One step further down: what the client handed on.
    const { parts } = r.home.server
    const principal = await parts.tokens.verify(mine.access_token, r.resource())
    const { chain, identityId, kind, name } = principal
    const below = await parts.sessions.start({ identityId, chain, how: 'exchange', parentId: principal.sessionId, lifeMs: 60_000 })
    const claims = claimsOf({ identityId, credentialId: newId('crd', Date.now()), sessionId: below.id, chain })
    const handed = await parts.tokens.mint({ kind, name, claims, audience: r.resource(), notAfter: Date.now() + 60_000 })
    assert.equal((await r.mcp(handed.token)).status, 200)
    await lock('session', await sessionOf(stolen))
    assert.equal((await r.mcp(handed.token)).status, 403)
    assert.equal((await r.mcp(mine.access_token)).status, 403)
    assert.equal((await refresh(mine.refresh_token)).error, 'invalid_grant')
    assert.equal((await r.mcp(elsewhere.access_token)).status, 200)
    await r.home.server.parts.sessions.end(await sessionOf(other), 'logout')
    assert.equal((await r.mcp(elsewhere.access_token)).status, 200)
    assert.equal((await refresh(elsewhere.refresh_token)).status, 200)
  })

  test('a yes holds for what was read, also when that is widened before it arrives', async () => {
    const { oauth, browsers } = r.home.server.parts
    const browser = await r.browser('boris')
    const page = await browser.open(begin({ resource: r.resource() }))
    const cookies = [...browser.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const waiting = (await oauth.waiting(page.path.split('/').at(-1)!, cookies))!
    const web = await browsers.open(browser.cookies.get('__Host-chaperone-session')!)
    const chosen = { agent: 'boris/claude-code', profile: 'reading', readOnly: false }
    const { seen } = await oauth.ask(web, waiting, chosen)
    for (const spec of ['{ limits: { effects: [read, write] }, for: 1h }', '{ limits: { effects: [read] }, for: 8h }']) {
      await r.home.apply(`kind: profile\nname: reading\nspec: ${spec}\n`)
      await assert.rejects(oauth.agree(web, waiting, chosen, seen), { code: 'conflict' })
    }
    await r.home.apply('kind: profile\nname: reading\nspec: { limits: { effects: [read] }, for: 1h }\n')
    const next = await oauth.ask(web, waiting, chosen)
    assert.equal(next.seen, seen)
    assert.match(await oauth.agree(web, waiting, chosen, seen).catch((error: { code: string }) => error.code), /oauth\/authorize|factor_required/)
  })

  test('rule 11: a body in chunks is counted as it is read, and no further', async () => {
    const { address, port } = addressIn(r.home.server.addresses.web)
    const send = (bytes: number) =>
      new Promise<{ readonly status: number; readonly text: string }>((done, fail) => {
        const headers = { host: r.web, 'content-type': 'application/x-www-form-urlencoded', 'transfer-encoding': 'chunked' }
        const out = request(
          { host: address, port, path: '/oauth/token', method: 'POST', rejectUnauthorized: false, agent: false, headers },
          (answer) => {
            let text = ''
            answer.on('data', (chunk) => {
              text += chunk
            })
            answer.on('end', () => done({ status: answer.statusCode ?? 0, text }))
          },
        )
        out.on('error', fail)
        out.write('grant_type=refresh_token&client_id=nobody&refresh_token=')
        out.end('x'.repeat(bytes))
      })
    assert.match((await send(1024)).text, /invalid_client/)
    const large = await send(40 * 1024)
    assert.equal(large.status, 400)
    assert.match(large.text, /failed to parse the request body/)
  })
})

const addressIn = (text: string) => ({ address: text.slice(0, text.lastIndexOf(':')), port: text.slice(text.lastIndexOf(':') + 1) })
