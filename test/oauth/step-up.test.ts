import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { Answered } from '../parts/house.ts'
import { begin, CALLBACK, CLAUDE, type Rig, rig, type Tokens } from './rig.ts'

const READERS = `---
kind: role
name: reader-of-files
spec: { allow: [ { mcp: files, can: read } ] }
---
kind: user
name: ola
spec: { roles: [reader-of-files] }
`

describe('a client steps up from reading to all that its person gives it', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) }, {}, READERS)
    await r.home.enrol('ola')
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  type Told = Tokens & { readonly scope?: string }
  const signIn = async (who: string, scope: string, fields: Record<string, string> = {}): Promise<Told> => {
    const flow = begin({ resource: r.resource(), scope })
    const browser = await r.browser(who)
    const page = await browser.open(flow)
    const looked = await browser.answer(page, { verdict: 'look', ...fields })
    const back = await browser.finish({ path: page.path, page: looked }, fields)
    const code = back.searchParams.get('code')!
    return r.token({ grant_type: 'authorization_code', client_id: CLAUDE, redirect_uri: CALLBACK, code, code_verifier: flow.verifier })
  }
  const call = async (token: string, name = 'test_simple_text', path?: string): Promise<Answered> => {
    const hello = await r.mcp(token)
    const body = { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name, arguments: {} } }
    return r.send(token, String(hello.headers['mcp-session-id']), body, path)
  }
  const challenged = (answered: Answered) => {
    assert.equal(answered.status, 403, answered.text)
    assert.equal(
      answered.headers['www-authenticate'],
      `Bearer error="insufficient_scope", resource_metadata="https://${r.web}/.well-known/oauth-protected-resource/mcp/files", scope="mcp"`,
    )
  }

  test('reading works, a change is answered with the scope that it takes, and after one more consent it works', async () => {
    const less = await signIn('boris', 'mcp:read')
    assert.equal(less.scope, 'mcp:read')
    const refused = await call(less.access_token)
    challenged(refused)
    // Whoever reads bodies and not statuses learns as much as ever.
    assert.match(refused.text, /delegation_exceeded/)
    const [, wanted] = /scope="([^"]+)"/.exec(String(refused.headers['www-authenticate']))!
    const more = await signIn('boris', wanted!)
    assert.equal(more.scope, 'mcp')
    assert.match((await call(more.access_token)).text, /simple text/i)
    challenged(await call(less.access_token))
  })

  test('it steps up in the modern era too', async () => {
    const { access_token } = await signIn('boris', 'mcp:read')
    const version = '2026-07-28'
    const meta = { 'io.modelcontextprotocol/protocolVersion': version, 'io.modelcontextprotocol/clientCapabilities': {} }
    const body = { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'test_simple_text', arguments: {}, _meta: meta } }
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      authorization: `Bearer ${access_token}`,
      'mcp-protocol-version': version,
      'mcp-method': 'tools/call',
      'mcp-name': 'test_simple_text',
    }
    challenged(await r.postJson('/mcp/files', body, headers))
  })

  test('whose person left it only reading is told so, and may ask him again; its refresh token stays good', async () => {
    for (const fields of [{ read: 'only' }, { profile: 'reading' }] as Record<string, string>[]) {
      const given = await signIn('boris', 'mcp', fields)
      assert.equal(given.scope, 'mcp:read', JSON.stringify(given))
      challenged(await call(given.access_token))
      const next: Told = await r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token: given.refresh_token, scope: 'mcp:read' })
      assert.equal(next.scope, 'mcp:read', JSON.stringify(next))
      challenged(await call(next.access_token))
      const wider = await r.token({ grant_type: 'refresh_token', client_id: CLAUDE, refresh_token: next.refresh_token, scope: 'mcp' })
      assert.equal(wider.error, 'invalid_scope')
    }
  })

  test('a refusal by role stays one that a model reads: a client that has all, or could get no more, is sent to nobody', async () => {
    for (const scope of ['mcp', 'mcp:read']) {
      const { access_token } = await signIn('ola', scope)
      const refused = await call(access_token)
      assert.equal(refused.status, 200, refused.text)
      assert.equal(refused.headers['www-authenticate'], undefined)
      assert.match(refused.text, /no_rule|delegation_exceeded/)
    }
    const { access_token } = await signIn('boris', 'mcp:read')
    const unknown = await call(access_token, 'no_such_tool')
    assert.notEqual(unknown.status, 401)
  })

  test('rule 8: at a server that it may not see it learns of no scope', async () => {
    const { access_token } = await signIn('ola', 'mcp:read')
    const answered = await call(access_token, 'test_simple_text', '/mcp/other')
    assert.equal(answered.status, 401)
    assert.doesNotMatch(String(answered.headers['www-authenticate']), /insufficient_scope/)
  })
})
