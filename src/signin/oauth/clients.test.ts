import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { Resources } from '../../access/types.ts'
import { type Clock, manualClock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { openStore } from '../../store/open.ts'
import { type Outgoing, openOutgoing } from '../../vault/outbound.ts'
import { agentSegment, documentUrl, openClients, readDocument } from './clients.ts'
import { challenge, metadataAt, metadataUrl, readResource, resourceUrl } from './resources.ts'

const ID = 'https://client.example.com/client.json'
const good = { client_id: ID, client_name: 'Client', redirect_uris: ['http://localhost/callback'] }

async function clients(t: { after(work: () => unknown): void }, outgoing: Outgoing, hosts: readonly string[] = ['*'], clock: Clock = systemClock) {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-clients-'))
  const store = await openStore({ dataDir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dataDir, { recursive: true, force: true })
  })
  const resources = { list: () => [] } as Pick<Resources, 'list'>
  const records: unknown[] = []
  const audit = { append: async (draft: unknown) => void records.push(draft) } as never
  return { records, found: openClients({ store, audit, clock, resources, outgoing, hosts, trustDomain: 'test' }) }
}

describe('a metadata document of a client', () => {
  test('is believed when it names itself, and its redirects are https or on this computer', () => {
    assert.equal(readDocument(ID, JSON.stringify(good)).application_type, 'native')
    assert.equal(readDocument(ID, JSON.stringify({ ...good, redirect_uris: ['https://client.example.com/back'] })).application_type, 'web')
    // Claude and others list custom schemes beside; those are left out.
    assert.deepEqual(readDocument(ID, JSON.stringify({ ...good, redirect_uris: ['cursor://x', 'http://localhost/callback'] })).redirect_uris, [
      'http://localhost/callback',
    ])
  })

  for (const [why, text] of [
    ['it names another id', JSON.stringify({ ...good, client_id: `${ID}/` })],
    ['it is not JSON', '<html>'],
    ['it is a list', '[]'],
    ['it says something twice', `{"redirect_uris":["https://client.example.com/mine"],${JSON.stringify(good).slice(1)}`],
    ['it holds a secret', JSON.stringify({ ...good, client_secret: 'x' })],
    ['it wants a secret', JSON.stringify({ ...good, token_endpoint_auth_method: 'client_secret_basic' })],
    ['it has no redirects', JSON.stringify({ ...good, redirect_uris: [] })],
    ['its redirects are custom schemes', JSON.stringify({ ...good, redirect_uris: ['app://x', 'javascript:alert(1)', 'http://evil.example.com/x'] })],
    ['it signs with no key', JSON.stringify({ ...good, token_endpoint_auth_method: 'private_key_jwt' })],
    ['it publishes a private key', JSON.stringify({ ...good, jwks: { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', d: 'd' }] } })],
    ['it has no name', JSON.stringify({ ...good, client_name: '' })],
  ] as const)
    test(`is refused when ${why}`, () => {
      assert.throws(() => readDocument(ID, text), { code: 'malformed' })
    })

  test('lies at an https address with a path, written in the one way that there is', () => {
    assert.ok(documentUrl(ID))
    for (const bad of [
      'http://client.example.com/client.json',
      'https://client.example.com/',
      'https://client.example.com',
      'https://client.example.com:443/x',
      'https://client.example.com/a/../b',
      'https://client.example.com/a/%2e%2e/b',
      'https://user@client.example.com/x',
      'https://CLIENT.example.com/x',
      `${ID}#x`,
      'https://client.example.com\\x',
      `https://client.example.com/${'x'.repeat(600)}`,
    ])
      assert.equal(documentUrl(bad), undefined, bad)
  })

  test('gives a name that agents may have, whatever it calls itself', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (name) => /^[a-z0-9][a-z0-9-]{0,62}$/.test(agentSegment(name, ID))))
    assert.equal(agentSegment('Claude Code (vscode)', ID), 'claude-code-vscode')
  })
})

describe('addresses of resources', () => {
  test('are read back as they are written, and in no other way', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$/), fc.option(fc.string({ minLength: 1, maxLength: 20 })), (name, database) => {
        fc.pre(name !== '.' && name !== '..' && !(database !== null && (/^\.{1,2}$/.test(database) || !database.isWellFormed())))
        const server = database === null ? name : `${name}/${database}`
        const url = resourceUrl('host.example.com', server)
        assert.deepEqual(readResource('host.example.com', url), { server })
        assert.equal(readResource('other.example.com', url), undefined)
        assert.deepEqual(metadataAt(new URL(metadataUrl('host.example.com', server)).pathname), { server })
      }),
    )
    assert.match(
      challenge('h:1', 'files', 'insufficient_scope'),
      /^Bearer error="insufficient_scope", resource_metadata="https:\/\/h:1\/\.well-known\//,
    )
  })
})

describe('what a client id leads to', () => {
  const never: Outgoing = { fetch: async () => assert.fail('it was fetched'), asFetch: () => async () => assert.fail('it was fetched') }
  const answering = (make: () => Response): { readonly outgoing: Outgoing; readonly count: () => number } => {
    let count = 0
    const fetch = async () => {
      count++
      return make()
    }
    return { outgoing: { fetch, asFetch: () => fetch }, count: () => count }
  }

  test('is fetched once, kept, and recorded', async (t) => {
    const { outgoing, count } = answering(() => new Response(JSON.stringify(good), { headers: { 'cache-control': 'max-age=600' } }))
    const { found, records } = await clients(t, outgoing)
    const both = await Promise.all([found.find(ID), found.find(ID)])
    assert.deepEqual(both[0], both[1])
    assert.equal((await found.find(ID))?.client_name, 'Client')
    assert.equal(count(), 1)
    assert.equal((records as { type: string }[]).filter(({ type }) => type === 'client.registered').length, 1)
  })

  test('is not fetched from a host that is not trusted', async (t) => {
    const { found } = await clients(t, never, ['claude.ai', '*.company.example'])
    assert.equal(await found.find(ID), undefined)
  })

  test('a redirect is no answer, and what failed is not asked for again at once', async (t) => {
    const { outgoing, count } = answering(() => new Response(null, { status: 302, headers: { location: 'https://169.254.169.254/' } }))
    const { found } = await clients(t, outgoing)
    await assert.rejects(found.find(ID), { code: 'malformed' })
    await assert.rejects(found.find(ID), { code: 'malformed' })
    assert.equal(count(), 1)
  })

  test('counts for an hour beyond its time while its host cannot be reached, and no longer when that takes it back', async (t) => {
    const clock = manualClock(Date.parse('2026-11-23T10:00:00Z'))
    let answer: () => Response = () => new Response(JSON.stringify(good), { headers: { 'cache-control': 'max-age=600' } })
    const { outgoing, count } = answering(() => answer())
    const { found } = await clients(t, outgoing, ['*'], clock)
    await found.find(ID)
    clock.advance(600_000)
    answer = () => {
      throw new ChaperoneError('upstream_timeout', 'It did not answer.')
    }
    assert.equal((await found.find(ID))?.client_name, 'Client')
    assert.equal((await found.find(ID))?.client_name, 'Client')
    assert.equal(count(), 2, 'not asked for again at once')
    clock.advance(60_000)
    answer = () => new Response(null, { status: 503 })
    assert.equal((await found.find(ID))?.client_name, 'Client')
    clock.advance(60_000)
    answer = () => new Response(null, { status: 404 })
    await assert.rejects(found.find(ID), { code: 'malformed' })
    clock.advance(60_000)
    answer = () => new Response(null, { status: 503 })
    await assert.rejects(found.find(ID), { code: 'upstream_unavailable' })
    clock.advance(60_000)
    answer = () => new Response(JSON.stringify(good))
    await found.find(ID)
    clock.advance(300_000 + 3_600_000)
    answer = () => new Response(null, { status: 503 })
    await assert.rejects(found.find(ID), { code: 'upstream_unavailable' })
  })

  for (const [name, address] of [
    ['this machine', '127.0.0.1'],
    ['a private network', '10.0.0.1'],
    ['the metadata service of a cloud', '169.254.169.254'],
    ['this machine by IPv6', '::1'],
    ['a private address inside IPv6', '::ffff:192.168.0.1'],
  ] as const)
    test(`is not fetched from ${name}, whatever its name says`, async (t) => {
      const outgoing = openOutgoing({ clock: systemClock, env: {}, resolve: async () => [{ address, family: address.includes(':') ? 6 : 4 }] })
      const { found } = await clients(t, outgoing)
      await assert.rejects(found.find(ID), { code: 'upstream_unavailable' })
    })

  test('a name that resolves to both is not fetched: the second answer would be the one that counts', async (t) => {
    const resolve = async () => [
      { address: '93.184.216.34', family: 4 },
      { address: '127.0.0.1', family: 4 },
    ]
    const { found } = await clients(t, openOutgoing({ clock: systemClock, env: {}, resolve }))
    await assert.rejects(found.find(ID), { code: 'upstream_unavailable' })
  })
})
