import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { listenerOf } from '../../src/client/profile.ts'
import { ask, house, keyAndCsr } from '../parts/house.ts'

/** What server.json of 2025-12-11 demands of what we say. */
const server = z.object({
  $schema: z.url(),
  name: z
    .string()
    .min(3)
    .max(200)
    .regex(/^[a-zA-Z0-9.-]+\/[a-zA-Z0-9._-]+$/),
  title: z.string().min(1).max(100),
  description: z.string().min(1).max(100),
  version: z.string().regex(/^\d+\.\d+\.\d+$/),
  remotes: z.tuple([z.strictObject({ type: z.literal('streamable-http'), url: z.url({ protocol: /^https$/ }) })]),
})
const entry = z.object({
  server,
  _meta: z.object({
    'io.modelcontextprotocol.registry/official': z.object({
      status: z.literal('active'),
      publishedAt: z.iso.datetime(),
      updatedAt: z.iso.datetime(),
      isLatest: z.literal(true),
    }),
  }),
})
const page = z.object({ servers: z.array(entry), metadata: z.object({ count: z.number(), nextCursor: z.string().optional() }) })

const DOCUMENTS = `kind: user
name: boris
spec: { roles: [reader] }
---
kind: role
name: reader
spec: { allow: [{ mcp: notes, can: any }, { mcp: open, can: any }] }
---
kind: mcp
name: notes
spec: { url: "https://notes.internal.example/secret-path" }
---
kind: mcp
name: open
spec: { url: "https://open.example/mcp", registry: public, description: Everybody may know of it }
---
kind: mcp
name: hidden
spec: { url: "https://hidden.example/mcp" }
`

test('the registry API shows what one may see', async (t) => {
  const { server: running, apply, dana } = await house(t)
  await apply(DOCUMENTS)
  const { token } = await dana.api.call<{ token: string }>('POST', '/v1/issue', {
    name: 'boris',
    token: { audience: `https://${running.trustDomain}` },
  })
  const get = async (path: string, bearer?: string, more: { method?: string; headers?: Record<string, string> } = {}) => {
    const headers = { ...more.headers, ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }) }
    const answered = await ask(running.addresses.web, path, { ...more, headers })
    return { ...answered, body: answered.text === '' ? undefined : JSON.parse(answered.text) }
  }
  const own = (name: string) => `${running.trustDomain.split('.').reverse().join('.')}/${name}`
  const names = (body: unknown) => page.parse(body).servers.map((one) => one.server.name)
  const encoded = (name: string) => encodeURIComponent(own(name))

  await t.test('to everybody what its document calls public, and to an identity its own', async () => {
    const anybody = await get('/v0.1/servers')
    assert.equal(anybody.status, 200)
    assert.deepEqual(names(anybody.body), [own('open')])
    assert.equal(anybody.body.servers[0].server.description, 'Everybody may know of it')
    const his = await get('/v0.1/servers', token)
    assert.deepEqual(names(his.body), [own('notes'), own('open')])
    assert.equal(his.body.servers[0].server.remotes[0].url, `https://${running.parts.places.web}/mcp/notes`)
    assert.doesNotMatch(his.text, /internal\.example|secret-path/)
  })

  await t.test('a server by its name, its versions, and the latest of them', async () => {
    const versions = await get(`/v0.1/servers/${encoded('notes')}/versions`, token)
    const [only] = page.parse(versions.body).servers
    for (const version of ['latest', only!.server.version]) {
      const one = await get(`/v0.1/servers/${encoded('notes')}/versions/${version}`, token)
      assert.equal(entry.parse(one.body).server.name, own('notes'))
    }
    assert.equal((await get(`/v0.1/servers/${encoded('notes')}/versions/0.0.1`, token)).status, 404)
  })

  await t.test('rule 8: what one may not see is answered as what does not exist', async () => {
    const nothing = await get(`/v0.1/servers/${encoded('nothing')}/versions/latest`, token)
    for (const [name, bearer] of [
      ['hidden', token],
      ['hidden', undefined],
      ['notes', undefined],
    ] as const) {
      for (const path of ['/versions', '/versions/latest']) {
        const { status, text } = await get(`/v0.1/servers/${encoded(name)}${path}`, bearer)
        assert.deepEqual([status, text], [404, nothing.text], `${name}${path}`)
      }
    }
    assert.deepEqual(nothing.body, { error: 'Server not found' })
    for (const path of ['/v0.1', '/v0.1/', '/v0.1/publish', '/v0.1/servers/%ff/versions', '/v0.1/servers/a/b/c/d', '/v0.1//'])
      assert.equal((await get(path)).status, 404, path)
  })

  await t.test('pages, search and times', async () => {
    const first = page.parse((await get('/v0.1/servers?limit=1', token)).body)
    assert.equal(first.metadata.count, 1)
    const second = page.parse((await get(`/v0.1/servers?limit=1&cursor=${first.metadata.nextCursor}`, token)).body)
    assert.deepEqual(
      [...first.servers, ...second.servers].map((one) => one.server.name),
      [own('notes'), own('open')],
    )
    assert.equal(second.metadata.nextCursor, undefined)
    assert.deepEqual(names((await get('/v0.1/servers?search=OTE', token)).body), [own('notes')])
    assert.deepEqual(names((await get('/v0.1/servers?version=latest', token)).body).length, 2)
    assert.deepEqual(names((await get('/v0.1/servers?updated_since=2999-01-01T00:00:00Z', token)).body), [])
    assert.equal(names((await get('/v0.1/servers?updated_since=2020-01-01T00:00:00Z&include_deleted=true', token)).body).length, 2)
    for (const query of ['limit=0', 'limit=x', 'updated_since=yesterday']) assert.equal((await get(`/v0.1/servers?${query}`)).status, 400, query)
    assert.equal((await get('/v0.1/servers?cursor=%00%ff')).status, 200)
  })

  await t.test('pages of other origins may ask, and only here', async () => {
    const origin = { headers: { origin: 'https://vscode.dev' } }
    const asked = await get('/v0.1/servers', undefined, origin)
    assert.deepEqual([asked.status, asked.headers['access-control-allow-origin']], [200, '*'])
    const before = await get('/v0.1/servers', undefined, {
      method: 'OPTIONS',
      headers: { origin: 'https://vscode.dev', 'access-control-request-headers': 'authorization' },
    })
    assert.deepEqual([before.status, before.headers['access-control-allow-headers']], [204, 'Authorization, Content-Type, If-None-Match'])
    assert.equal((await get('/signin', undefined, origin)).status, 403)
    assert.equal((await get('/v0.1/servers', undefined, { headers: { host: 'rebound.example' } })).status, 403)
    assert.equal((await get('/v0.1/servers', undefined, { method: 'POST' })).status, 405)
  })

  await t.test('what has not changed is not sent again, and what another may see is another page', async () => {
    const first = await get('/v0.1/servers', token)
    const { etag } = first.headers
    assert.match(etag!, /^"[\w-]{43}"$/)
    const again = await get('/v0.1/servers', token, { headers: { 'if-none-match': `"other", W/${etag}` } })
    assert.deepEqual([again.status, again.text, again.headers.etag], [304, '', etag])
    assert.equal((await get('/v0.1/servers', undefined, { headers: { 'if-none-match': etag! } })).status, 200)
    assert.equal(first.headers['cache-control'], 'private, no-cache')
    assert.equal((await get('/v0.1/servers?limit=0', token)).headers.etag, undefined)
  })

  await t.test('a token that is no good is said so, not taken for nobody', async () => {
    const refused = await get('/v0.1/servers', 'nonsense')
    assert.equal(refused.status, 401)
    assert.ok(refused.headers['www-authenticate'])
  })

  await t.test('a change is a new version', async () => {
    const before = page.parse((await get('/v0.1/servers')).body).servers[0]!
    await apply(DOCUMENTS.replace('Everybody may know of it', 'Changed'))
    const after = page.parse((await get('/v0.1/servers')).body).servers[0]!
    assert.equal(after.server.description, 'Changed')
    const [official, was] = [after, before].map((one) => Date.parse(one._meta['io.modelcontextprotocol.registry/official'].updatedAt))
    assert.ok(official! >= was!)
  })
})

test('a client is told the very address that its tokens are for', async (t) => {
  const { server, dana } = await house(t, { webUrl: 'https://gate.example' })
  const { listeners } = await dana.api.call<{ listeners: { web: string } }>('POST', '/v1/clients', { client: 'cursor', csr: keyAndCsr().csr })
  assert.equal(server.parts.places.web, 'gate.example')
  assert.deepEqual(listenerOf({ ...dana.profile, listeners: { ...dana.profile.listeners, ...listeners } }, 'web'), {
    host: 'gate.example',
    port: 443,
  })
})
