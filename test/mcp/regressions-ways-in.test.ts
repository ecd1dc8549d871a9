import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Held } from '../../src/client/credential.ts'
import { eventually } from '../../src/gateways/mcp/harness.fixture.ts'
import { tampered } from '../parts/tampered.ts'
import {
  byCertificate,
  byNothing,
  byToken,
  type Door,
  legacy,
  modern,
  overHttp,
  shakeHands,
  throughLoopback,
  throughShim,
  type Way,
  type Whole,
  whole,
} from './whole.ts'

// Second entry points: what the front door refuses must be refused at every other door. Numbers are of the peers' bugs.

const ALLOWED = 'test_simple_text'
const DENIED = 'test_image_content'

const documents = (url: string) => `
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [some] }
---
kind: agent
name: stranger
spec: { owner: boris, roles: [] }
---
kind: role
name: some
spec:
  allow:
    - { mcp: files, tools: any }
    - { mcp: files, prompts: any }
  deny:
    - { mcp: files, tools: [${DENIED}] }
---
kind: mcp
name: files
spec: { url: ${JSON.stringify(url)} }
---
kind: mcp
name: unassigned
spec: { url: ${JSON.stringify(url)} }
`

describe('every way in is the same way in', () => {
  const undo: (() => Promise<void>)[] = []
  let all: Whole
  let held: Held
  let token: string
  let data: Door
  let web: Door
  before(async () => {
    all = await whole({ after: (work) => void undo.unshift(work) }, documents)
    held = await all.credential('bot')
    token = await all.token('bot')
    data = byCertificate(all.home.server.addresses.data, held)
    web = byToken(all.home.server.addresses.web, token)
  })
  after(async () => {
    for (const step of undo) await step()
  })

  /** Every route by which a tool can be called. A new one belongs here. */
  const ways = (): Record<string, Way> => ({
    'mTLS, legacy': overHttp(data, '/mcp/files', 'legacy'),
    'mTLS, modern': overHttp(data, '/mcp/files', 'modern'),
    'mTLS, with a slash at the end': overHttp(data, '/mcp/files/', 'modern'),
    'bearer, legacy': overHttp(web, '/mcp/files', 'legacy'),
    'bearer, modern': overHttp(web, '/mcp/files', 'modern'),
    'all servers, legacy': overHttp(data, '/mcp', 'legacy', 'files__'),
    'all servers, modern': overHttp(data, '/mcp', 'modern', 'files__'),
    'all servers, bearer': overHttp(web, '/mcp', 'modern', 'files__'),
    'a batch': async (tool) => {
      const session = await shakeHands(data, '/mcp/files', '2025-03-26')
      const messages = [ALLOWED, tool].map((name, id) => JSON.parse(legacy('tools/call', { name, arguments: {} }, id)) as unknown)
      return JSON.stringify((JSON.parse((await data('/mcp/files', { headers: session, body: JSON.stringify(messages) })).text) as unknown[])[1])
    },
    'as a task': async (tool) => {
      const session = await shakeHands(data, '/mcp/files')
      return (await data('/mcp/files', { headers: session, body: legacy('tools/call', { name: tool, arguments: {}, task: { ttl: 1000 } }) })).text
    },
    'the shim, legacy': throughShim(held, 'files', 'legacy'),
    'the shim, modern': throughShim(held, 'files', 'modern'),
    'the shim, all servers': throughShim(held, undefined, 'legacy', 'files__'),
    'the loopback proxy, legacy': throughLoopback(held, 'files', 'legacy'),
    'the loopback proxy, modern': throughLoopback(held, 'files', 'modern'),
  })

  test('rule 9: a denied tool is denied on every way in, and each refusal is on record (R16)', { timeout: 180_000 }, async () => {
    for (const [name, way] of Object.entries(ways())) {
      const before = all.records.filter(({ type }) => type === 'action.refused').length
      // A task is only an other way to be refused; the fixture's plain tools are none.
      if (name !== 'as a task') assert.match(await way(ALLOWED), /simple text response/, `${name}: the way works`)
      assert.match(await way(DENIED), /Chaperone refused the call of/, name)
      await eventually(() => all.records.filter(({ type }) => type === 'action.refused').length === before + 1, `${name}: one refusal on record`)
      const refused = all.records.filter(({ type }) => type === 'action.refused').at(-1)!
      assert.equal(refused.actor?.name, 'bot', name)
      assert.equal(refused.decision?.reason, 'denied_by_rule', name)
      assert.match(refused.action?.summary ?? '', /test_image_content/, name)
    }
    assert.equal(all.reached(DENIED), 0)
  })

  test('a stream that is resumed is judged again: what a role no longer gives is not replayed (R16, R54)', async () => {
    const role = (deny: string) => `
kind: agent
name: resumer
spec: { owner: boris, roles: [resumes] }
---
kind: role
name: resumes
spec: { allow: [{ mcp: files, tools: any }]${deny} }
`
    await all.home.apply(role(''))
    const mine = byCertificate(all.home.server.addresses.data, await all.credential('resumer'))
    const session = await shakeHands(mine, '/mcp/files')
    const begun = await mine('/mcp/files', { headers: session, body: legacy('tools/call', { name: 'test_reconnection', arguments: {} }) })
    const last = /^id: ?(.+)$/m.exec(begun.text)?.[1]
    assert.ok(last, begun.text)
    assert.doesNotMatch(begun.text, /completed successfully/)
    await all.home.apply(role(', deny: [{ mcp: files }]'))
    const rest = await mine('/mcp/files', { method: 'GET', headers: { ...session, 'last-event-id': last } })
    assert.notEqual(rest.status, 200)
    assert.doesNotMatch(rest.text, /completed successfully/)
  })

  test('rule 9: without an identity nothing is reached, by no path, method, prefix or header (R09, R17, R49)', async () => {
    const before = all.asked().length
    const call = modern('tools/call', { name: ALLOWED, arguments: {} })
    const paths = [
      '/mcp/files',
      '/mcp',
      '/mcp/',
      '/mcp/files/',
      '/.well-known/oauth-protected-resource/mcp/files',
      '/.well-known/anything',
      '/v1/mcp/files',
    ]
    paths.push(
      '/healthz/../mcp/files',
      '/healthz/mcp/files',
      '/readyz',
      '/healthz',
      '//mcp/files',
      '/mcp%2Ffiles',
      '/MCP/files',
      '/mcp/files/../files',
    )
    paths.push(
      '/mcp/files?anonymous=1',
      '/mcp/files;x',
      '/mcp/files/sse',
      '/sse',
      '/messages?sessionId=1',
      '/mcp/files/messages',
      '/metrics',
      '/',
      '/api/mcp',
    )
    const lies: Record<string, string>[] = [
      {},
      { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', forwarded: 'for=127.0.0.1' },
      { 'x-forwarded-user': 'dana', 'x-auth-request-user': 'dana', 'x-forwarded-client-cert': 'Subject="CN=dana"', baggage: 'user=dana' },
      { 'x-test-as': 'dana', 'x-chaperone-identity': 'dana', authorization: '' },
    ]
    for (const address of [all.home.server.addresses.data, all.home.server.addresses.web]) {
      for (const path of paths) {
        const asks = [
          ...lies.map((headers) => ({ method: 'POST', headers })),
          ...['GET', 'DELETE', 'PUT', 'OPTIONS', 'PATCH'].map((method) => ({ method, headers: {} })),
        ]
        for (const { method, headers } of asks) {
          const body = method === 'POST' ? { body: call.body } : {}
          const { status, text } = await byNothing(address, headers)(path, { method, headers: call.headers, ...body })
          const what = `${method} ${path} ${JSON.stringify(headers)}: ${status} ${text.slice(0, 80)}`
          // That we live is no secret, nor are the figures on the machine itself; nothing else is open.
          const open = /^\/(healthz|readyz|metrics)$/.test(path) && status === 200
          // What a browser gets there is where one signs in, or that it may not post from elsewhere.
          const page = path === '/' && address === all.home.server.addresses.web && (status === 303 || text.startsWith('<!doctype html>'))
          // Where a client finds out how to come in (RFC 9728; on both listeners, RFC 8705): it names addresses only, and takes nothing.
          const metadata =
            path.startsWith('/.well-known/oauth-protected-resource/') && (method === 'GET' || method === 'OPTIONS' ? status < 300 : status === 405)
          assert.ok(open || page || metadata || status === 401 || (status === 404 && path.startsWith('/v1/')), what)
          assert.doesNotMatch(text, /jsonrpc/, what)
        }
      }
    }
    assert.deepEqual(all.asked().slice(before), [])
  })

  test('rule 1: a credential that is no good is a refusal, never somebody anonymous (R50)', async () => {
    const before = all.asked().length
    const bad = [tampered(token), 'x', '', ' ', 'null', 'undefined', `${token}, ${token}`]
    for (const path of ['/mcp/files', '/mcp', '/mcp/files/']) {
      for (const one of bad) {
        const answer = await byToken(all.home.server.addresses.web, one)(path, modern('tools/call', { name: ALLOWED, arguments: {} }))
        assert.equal(answer.status, 401, `${path} ${one.slice(0, 10)}`)
        assert.match(answer.text, /credential_invalid|unauthenticated/)
      }
      for (const scheme of [`Basic ${Buffer.from('dana:').toString('base64')}`, `bearer`, `Token ${token}`, `Bearer\t${token}`]) {
        const answer = await byNothing(all.home.server.addresses.web, { authorization: scheme })(
          path,
          modern('tools/call', { name: ALLOWED, arguments: {} }),
        )
        assert.equal(answer.status, 401, scheme)
      }
    }
    assert.deepEqual(all.asked().slice(before), [])
  })

  test('rule 8: to know the URL of a server is not to be its member; a new server is nobody’s (R19, R20, R21)', async () => {
    const before = all.reached('tools/')
    const stranger = byCertificate(all.home.server.addresses.data, await all.credential('stranger'))
    const hello = legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } })
    for (const [door, path] of [
      [stranger, '/mcp/files'],
      [stranger, '/mcp/unassigned'],
      [data, '/mcp/unassigned'],
    ] as const) {
      for (const request of [
        { body: hello },
        modern('tools/list'),
        modern('tools/call', { name: ALLOWED, arguments: {} }),
        modern('server/discover'),
      ]) {
        const { status, text } = await door(path, request)
        assert.equal(status, 404, text)
        // The same words as for a server that was never there.
        assert.equal(text.replace(/files|unassigned/, 'NAME'), (await door('/mcp/nowhere', request)).text.replace('nowhere', 'NAME'))
      }
    }
    for (const door of [stranger, data]) {
      const listed = (await door('/mcp', modern('tools/list'))).text
      assert.doesNotMatch(listed, /unassigned/)
      assert.equal(listed.includes('files__'), door === data)
      for (const name of [`unassigned__${ALLOWED}`, ...(door === data ? [] : [`files__${ALLOWED}`])])
        assert.match((await door('/mcp', modern('tools/call', { name, arguments: {} }))).text, /Unknown tool/)
    }
    assert.deepEqual((await all.home.dana.api.call<{ resources: unknown[] }>('GET', '/v1/resources/mcp')).resources, [], 'nor the administrator’s')
    assert.equal(
      all.records
        .filter(({ action }) => action?.resource.name === 'unassigned' && action.operation === 'tools/call')
        .every(({ type }) => type === 'action.refused'),
      true,
    )
    assert.equal(all.reached(`unassigned__`), 0)
    assert.ok(all.reached('tools/') - before <= 2, 'nothing but the one list of who may have it')
  })

  test('rule 5: headers and `_meta` that speak of identity neither count nor go on (R34)', async () => {
    const lies = {
      'x-forwarded-for': '10.0.0.1',
      'x-real-ip': '10.0.0.1',
      forwarded: 'for=10.0.0.1',
      'x-forwarded-user': 'dana',
      'x-user': 'dana',
      'x-forwarded-client-cert': 'Subject="CN=dana"',
      baggage: 'user=dana',
      cookie: 'session=dana',
      'x-chaperone-origin': 'upstream',
    }
    const call = modern('tools/call', { name: 'echo', arguments: { mark: 'spoofed' } })
    const body = call.body.replace('"_meta":{', '"_meta":{"dev.chaperone/identity":"dana","Dev.Chaperone/Role":"admin",')
    const { status, text } = await data('/mcp/files', { body, headers: { ...call.headers, ...lies } })
    assert.equal(status, 200, text)
    const arrived = all.fixture.world.received.findLast((one) => one.body.includes('spoofed'))!
    for (const name of Object.keys(lies)) assert.equal(arrived.headers?.[name], undefined, name)
    assert.doesNotMatch(arrived.body, /chaperone/i)
    const intent = all.records.findLast(({ type }) => type === 'action.intent')
    assert.equal(intent?.actor?.name, 'bot')
  })

  test('the SSE of old has no endpoint of ours whose session id could be a login (R53)', async () => {
    for (const path of ['/sse', '/mcp/files/sse', '/messages', '/message?sessionId=1', '/mcp/files/messages?sessionId=1']) {
      for (const method of ['GET', 'POST']) {
        const { status } = await data(path, {
          method,
          headers: { accept: 'text/event-stream' },
          ...(method === 'POST' ? { body: legacy('ping') } : {}),
        })
        assert.equal(status, 404, `${method} ${path}`)
      }
    }
  })
})
