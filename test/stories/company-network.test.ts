import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose'
import type { AuditPage } from '../../src/api/audit-contract.ts'
import { openApi } from '../../src/client/api.ts'
import { fetchAuthority, whoAnswers } from '../../src/client/first-contact.ts'
import { type FakeAuthority, fakeAuthority } from '../fakes/authority.ts'
import { fakeBalancer, fakeProxy } from '../fakes/proxy.ts'
import { ask, type House, house } from '../parts/house.ts'

/** What `t.after` of one test would do, for all tests of a block. */
function undoing() {
  const undo: (() => Promise<unknown> | unknown)[] = []
  after(async () => {
    for (const step of undo.reverse()) await step()
  })
  return { after: (work: () => Promise<unknown> | unknown) => void undo.push(work) } as { after(work: () => Promise<void>): void }
}

describe('a company whose machines reach nothing without its proxy', () => {
  const test_ = undoing()
  let proxy: Awaited<ReturnType<typeof fakeProxy>>
  let home: House
  let company: FakeAuthority

  before(async () => {
    proxy = await fakeProxy({ login: 'boris:hunter2' })
    process.env.HTTPS_PROXY = `http://boris:hunter2@127.0.0.1:${proxy.port}`
    test_.after(async () => {
      delete process.env.HTTPS_PROXY
      await proxy.close()
    })
    home = await house(test_, { publicHost: ['chaperone.corp.test'] })
    company = await fakeAuthority('Corp Inspection CA')
  })

  test('enrolment, mutual TLS and the API go through it', async () => {
    const who = await home.dana.api.call<{ name: string }>('GET', '/v1/whoami')
    assert.equal(who.name, 'dana')
    const port = home.server.addresses.data.split(':')[1]
    assert.ok(proxy.seen.length > 0 && proxy.seen.every((one) => one === `CONNECT chaperone.corp.test:${port}`), proxy.seen.join())
  })

  test('an MCP server behind it gets the identity of the caller, which it verifies with the published keys', async (t) => {
    const { key, chain } = await company.issue(['crm.corp.test'])
    const tokens: string[] = []
    const server = createSecureServer({ key, cert: chain }, (request, response) => {
      let text = ''
      request.on('data', (chunk) => {
        text += chunk
      })
      request.once('end', () => {
        const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
        if (token !== undefined) tokens.push(token)
        const message = JSON.parse(text || '{}')
        if (message.id === undefined) return void response.writeHead(202).end()
        const result =
          message.method === 'tools/list'
            ? { tools: [{ name: 'look', inputSchema: { type: 'object' } }] }
            : message.method === 'initialize'
              ? { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'crm', version: '1' } }
              : { content: [] }
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    const url = `https://crm.corp.test:${(server.address() as AddressInfo).port}/mcp`
    await home.apply(`kind: mcp
name: crm
spec:
  url: ${url}
  ca: |
${company.certificate.trim().replace(/^/gm, '    ')}
  auth: { identity: { audience: "https://crm.corp.test" } }
---
kind: role
name: crm
spec: { allow: [{ mcp: crm, can: any }] }
---
kind: agent
name: bot
spec: { owner: dana, roles: [crm] }
`)
    const bot = await home.join('bot')
    const posted = await ask(home.server.addresses.data, '/mcp/crm', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-11-25' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } },
      }),
      key: bot.profile.key,
      cert: bot.profile.certificate,
    })
    assert.equal(posted.status, 200, posted.text)
    assert.ok(proxy.seen.includes(`CONNECT crm.corp.test:${new URL(url).port}`), proxy.seen.join())
    const issuer = home.server.parts.assertions.issuer
    const keys = createRemoteJWKSet(new URL(`${issuer}/jwks.json`), {
      // The name of the listener leads nowhere in a test.
      [customFetch]: async (to: string) => {
        const { status, text, headers } = await ask(home.server.addresses.web, new URL(to).pathname, { headers: { host: 'chaperone.corp.test' } })
        assert.match(headers['content-type'] ?? '', /json/)
        return new Response(text, { status })
      },
    })
    const { payload } = await jwtVerify(tokens[0]!, keys, { issuer, audience: 'https://crm.corp.test', algorithms: ['ES256'], typ: 'JWT' })
    assert.equal(payload.sub, `spiffe://${home.server.trustDomain}/agent/bot`)
    const discovery = await ask(home.server.addresses.web, '/identity/.well-known/openid-configuration', { headers: { host: 'chaperone.corp.test' } })
    assert.deepEqual([JSON.parse(discovery.text).issuer, JSON.parse(discovery.text).jwks_uri], [issuer, `${issuer}/jwks.json`])
    // The other way round it opens nothing.
    const back = await ask(home.server.addresses.web, '/mcp/crm', { headers: { host: 'chaperone.corp.test', authorization: `Bearer ${tokens[0]}` } })
    assert.equal(back.status, 401)
  })

  test('a proxy that opens TLS is named, and nobody believes it', async (t) => {
    const { key, chain } = await company.issue(['chaperone.corp.test'])
    const inspecting = await fakeProxy({ inspect: { key, cert: chain } })
    const before = process.env.HTTPS_PROXY
    process.env.HTTPS_PROXY = `http://127.0.0.1:${inspecting.port}`
    t.after(async () => {
      process.env.HTTPS_PROXY = before
      await inspecting.close()
    })
    const { profile } = home.dana
    const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
    t.after(() => api.close())
    await assert.rejects(api.call('GET', '/v1/whoami'), {
      code: 'credential_invalid',
      fix: /proxy of your company that opens TLS, client certificates cannot pass it.*bearer token/,
    })
    const fingerprint = await home.server.parts.ca.fingerprint('server')
    await assert.rejects(fetchAuthority({ address: profile.address, fingerprint }), { code: 'credential_invalid', fix: /"Corp Inspection CA"/ })
    assert.equal((await whoAnswers(profile.address)).issuer, '"Corp Inspection CA"')
  })
})

describe('behind a load balancer that ends TLS', () => {
  const test_ = undoing()
  let home: House
  let token: string
  let balancer: Awaited<ReturnType<typeof fakeBalancer>>

  before(async () => {
    home = await house(test_, { publicHost: ['localhost', 'chaperone.corp.test'], trustedProxy: ['127.0.0.0/30'] })
    await home.apply('kind: agent\nname: bot\nspec: { owner: dana, roles: [] }\n')
    const audience = `https://${home.server.trustDomain}`
    ;({ token } = await home.dana.api.call<{ token: string }>('POST', '/v1/issue', { name: 'bot', token: { audience } }))
    const { key, chain } = await (await fakeAuthority()).issue(['chaperone.corp.test'])
    balancer = await fakeBalancer({ key, cert: chain, target: home.server.addresses.web })
    test_.after(() => balancer.close())
  })
  const host = { host: 'chaperone.corp.test' }
  const refusedFrom = async (type = 'connection.refused') => {
    const { records } = await home.dana.api.call<AuditPage>('GET', `/v1/audit?type=${type}`)
    const details = await Promise.all(records.map(({ id }) => home.dana.api.call<unknown>('GET', `/v1/audit/records/${id}`)))
    return details.map((detail) => /"from":"([^"]*)"/.exec(JSON.stringify(detail))?.[1])
  }

  test('a bearer token passes it, and a client certificate is not asked for', async () => {
    const { status, text } = await ask(`127.0.0.1:${balancer.port}`, '/mcp/none', {
      method: 'POST',
      headers: { ...host, authorization: `Bearer ${token}` },
      body: '{}',
    })
    assert.notEqual(status, 401, text)
  })

  test('the record has the address of the client, not that of the balancer, and not one that the client made up', async () => {
    const turned = (headers: Record<string, string>, localAddress: string) =>
      ask(`127.0.0.1:${balancer.port}`, '/mcp/x', { headers: { ...host, ...headers, authorization: 'Bearer nonsense' }, localAddress })
    assert.equal((await turned({}, '127.0.0.77')).status, 401)
    assert.equal((await turned({ 'x-forwarded-for': '8.8.8.8' }, '127.0.0.78')).status, 401)
    const from = await refusedFrom()
    assert.ok(from.includes('127.0.0.77') && from.includes('127.0.0.78'), from.join())
    assert.ok(!from.includes('8.8.8.8') && !from.includes('127.0.0.1'), from.join())
  })

  test('so has what a stranger knocks with at SCIM and at the pages: another one behind the same balancer is not named for it', async () => {
    const through = (path: string, localAddress: string, more: object) =>
      ask(`127.0.0.1:${balancer.port}`, path, { method: 'POST', body: '{}', localAddress, ...more })
    assert.equal((await through('/scim/v2/company/Users', '127.0.0.81', { headers: { ...host, authorization: 'Bearer guessed' } })).status, 401)
    const form = { ...host, origin: 'https://chaperone.corp.test', 'content-type': 'application/x-www-form-urlencoded' }
    await through('/signin', '127.0.0.82', { headers: form, body: 'code=123456' })
    const from = await refusedFrom('credential.refused')
    assert.deepEqual(from.toSorted(), ['127.0.0.81', '127.0.0.82'])
  })

  test('a header of somebody who is no balancer says nothing', async () => {
    const headers = { ...host, authorization: 'Bearer nonsense', 'x-forwarded-for': '9.9.9.9', forwarded: 'for=9.9.9.9' }
    assert.equal((await ask(home.server.addresses.web, '/mcp/x', { headers, localAddress: '127.0.0.99' })).status, 401)
    const from = await refusedFrom()
    assert.ok(from.includes('127.0.0.99') && !from.includes('9.9.9.9'), from.join())
  })

  test('the numbers that this machine may read are for nobody who comes through somebody else', async () => {
    assert.equal((await ask(home.server.addresses.web, '/metrics', { headers: host, localAddress: '127.0.0.99' })).status, 200)
    assert.equal((await ask(`127.0.0.1:${balancer.port}`, '/metrics', { headers: host })).status, 401)
    assert.equal(
      (await ask(home.server.addresses.web, '/metrics', { headers: { ...host, 'x-forwarded-for': '127.0.0.1' }, localAddress: '127.0.0.99' })).status,
      401,
    )
  })

  test('X-Forwarded-Host moves nothing: the host is ours or refused', async () => {
    const { status } = await ask(`127.0.0.1:${balancer.port}`, '/healthz', {
      headers: { host: 'evil.test', 'x-forwarded-host': 'chaperone.corp.test' },
    })
    assert.equal(status, 403)
  })
})
