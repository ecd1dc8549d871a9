import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as oauth from 'openid-client'
import { ask } from '../parts/house.ts'
import { rig } from './rig.ts'

/** A fetch that shows a certificate wherever it is asked for one, as a proxy or a service mesh beside a program does. */
const fetchWith =
  (shown: { readonly key: string; readonly cert: string }, seen: string[]): oauth.CustomFetch =>
  async (url, { method, headers, body }) => {
    seen.push(url)
    const { hostname, port, pathname, search } = new URL(url)
    const answered = await ask(`${hostname.replace('localhost', '127.0.0.1')}:${port}`, `${pathname}${search}`, {
      method,
      headers,
      ...(body === undefined || body === null ? {} : { body: String(body) }),
      ...shown,
    })
    const kept = Object.entries(answered.headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)] as [string, string]]))
    return new Response(answered.status === 204 ? null : answered.text, { status: answered.status, headers: kept })
  }

test('a client that knows nothing of Chaperone finds everything from the address of a server where certificates are shown', async (t) => {
  const r = await rig(t, {}, `---\nkind: agent\nname: robot\nspec: { owner: erik, roles: [user-of-files] }\n`)
  const { profile } = await r.home.join('robot')
  const shown = { key: profile.key, cert: profile.certificate }
  const seen: string[] = []
  const fetch = fetchWith(shown, seen)
  const server = new URL(`https://${r.home.server.parts.places.data}/mcp/files`)

  // RFC 9728: the metadata is of the very address that it was given, and says how tokens are shown there.
  const described = (await (
    await fetch(`${server.origin}/.well-known/oauth-protected-resource${server.pathname}`, { method: 'GET', headers: {} } as never)
  ).json()) as {
    resource: string
    authorization_servers: string[]
    tls_client_certificate_bound_access_tokens: boolean
  }
  assert.equal(described.resource, server.href)
  assert.equal(described.tls_client_certificate_bound_access_tokens, true)
  const atWeb = JSON.parse((await r.get('/.well-known/oauth-protected-resource/mcp/files')).text)
  assert.deepEqual([atWeb.resource, atWeb.tls_client_certificate_bound_access_tokens], [r.resource(), false])

  // RFC 8414 and RFC 8705: the library takes the token endpoint from `mtls_endpoint_aliases` by itself.
  const [issuer] = described.authorization_servers
  const configuration = await oauth.discovery(new URL(issuer!), 'robot', { use_mtls_endpoint_aliases: true }, oauth.TlsClientAuth(), {
    algorithm: 'oauth2',
    [oauth.customFetch]: fetch,
  })
  const tokens = await oauth.clientCredentialsGrant(configuration, { resource: described.resource })
  assert.equal(seen.at(-1), `${server.origin}/oauth/token`)
  const claims = JSON.parse(Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString())
  assert.equal(claims.aud, r.resource(), 'one resource, one audience')

  // And with it to the server, whose refusals lead back to the same metadata.
  const hello = {
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
  }
  const initialize = (token: string) => {
    const headers = new Headers({ 'content-type': 'application/json', accept: 'application/json, text/event-stream' })
    return oauth.fetchProtectedResource(configuration, token, server, 'POST', JSON.stringify(hello), headers)
  }
  assert.equal((await initialize(tokens.access_token)).status, 200)
  const refused = await initialize('nonsense').then(
    () => assert.fail('nonsense opens nothing'),
    (error: oauth.WWWAuthenticateChallengeError) => error.cause[0]!,
  )
  assert.equal(refused.parameters.resource_metadata, `${server.origin}/.well-known/oauth-protected-resource/mcp/files`)
  await oauth.tokenRevocation(configuration, tokens.access_token)
  const after = await initialize(tokens.access_token).catch((error: oauth.WWWAuthenticateChallengeError) => error.response)
  assert.notEqual(after.status, 200)
})
