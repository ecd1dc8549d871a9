import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { begin, CALLBACK, CLAUDE, rig } from './rig.ts'

describe('an OAuth client signs in', () => {
  test('from the challenge to the first call, as a client does', async (t) => {
    const r = await rig(t)
    const challenged = await r.mcp(undefined)
    assert.equal(challenged.status, 401)
    assert.equal(
      challenged.headers['www-authenticate'],
      `Bearer resource_metadata="https://${r.web}/.well-known/oauth-protected-resource/mcp/files", scope="mcp"`,
    )
    const described = JSON.parse((await r.get('/.well-known/oauth-protected-resource/mcp/files')).text)
    assert.equal(described.resource, r.resource())
    const [issuer] = described.authorization_servers
    const server = JSON.parse((await r.get('/.well-known/oauth-authorization-server')).text)
    assert.equal(server.issuer, issuer)
    assert.deepEqual(server.code_challenge_methods_supported, ['S256'])
    assert.equal(server.client_id_metadata_document_supported, true)
    assert.equal(server.authorization_response_iss_parameter_supported, true)
    assert.equal(server.registration_endpoint, undefined)

    const browser = await r.browser('boris')
    const flow = begin({ resource: r.resource() })
    const back = await browser.agree(flow)
    assert.equal(`${back.origin}${back.pathname}`, CALLBACK)
    assert.equal(back.searchParams.get('state'), flow.state)
    assert.equal(back.searchParams.get('iss'), issuer)
    assert.ok(![...browser.cookies.keys()].includes('__Host-chaperone-oauth-none'))

    const tokens = await r.token({
      grant_type: 'authorization_code',
      client_id: CLAUDE,
      redirect_uri: CALLBACK,
      code: back.searchParams.get('code')!,
      code_verifier: flow.verifier,
      resource: r.resource(),
    })
    assert.equal(tokens.status, 200, JSON.stringify(tokens))
    assert.equal(tokens.headers['cache-control'], 'no-store')
    assert.ok(tokens.expires_in <= 600)
    const answered = await r.mcp(tokens.access_token)
    assert.equal(answered.status, 200, answered.text)
    const call = r.records.find(({ type }) => type === 'delegation.made')
    assert.ok(call)
    const issued = r.records.find(({ type, actor }) => type === 'credential.issued' && actor?.name === 'boris/claude-code')
    assert.deepEqual(
      issued?.chain?.map(({ name }) => name),
      ['boris', 'boris/claude-code'],
    )
  })
})
