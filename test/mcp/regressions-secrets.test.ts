import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { eventually } from '../../src/gateways/mcp/harness.fixture.ts'
import { type RawServer, rawServer, tool } from './raw-server.ts'
import { byCertificate, byNothing, byToken, type Door, ENVELOPE, legacy, MODERN, modern, shakeHands, type Whole, whole } from './whole.ts'

// What is written into the store, and what is left out of it. Numbers are of the peers' bugs.

describe('the store of a whole Chaperone', () => {
  const undo: (() => Promise<void>)[] = []
  let all: Whole
  let raw: RawServer
  let bot: Door
  before(async () => {
    raw = await rawServer('modern', ['ok', 'fails'])
    undo.push(async () => raw.close())
    all = await whole(
      { after: (work) => void undo.unshift(work) },
      () => `
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [work] }
---
kind: role
name: work
spec: { allow: [{ mcp: any, can: any }] }
---
kind: mcp
name: files
spec: { url: ${JSON.stringify(raw.url)}, headers: { x-api-key: { secret: files-key } } }
`,
    )
    bot = byCertificate(all.home.server.addresses.data, await all.credential('bot'))
  })
  after(async () => {
    for (const step of undo) await step()
  })

  const stored = (): string =>
    readdirSync(join(all.home.dir, 'data'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
      .join('\n')

  test('rule 5: a secret that is sent in many places stands nowhere in the store (R72)', { timeout: 180_000 }, async () => {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
    const secret = () => `ghp_${[...randomBytes(36)].map((byte) => letters[byte % letters.length]).join('')}`
    const sealed = `vault-${randomBytes(16).toString('hex')}`
    await all.home.dana.api.call('PUT', '/v1/secrets/files-key', { value: sealed })
    const used: string[] = []
    const next = () => {
      used.push(secret())
      return used.at(-1)!
    }
    const { addresses } = all.home.server
    const session = await shakeHands(bot, '/mcp/files')
    const post = (body: string, headers: Record<string, string> = session) => bot('/mcp/files', { body, headers })
    const call = (args: Record<string, unknown>, more: Record<string, unknown> = {}) => modern('tools/call', { name: 'ok', arguments: args, ...more })

    const places: Readonly<Record<string, () => Promise<unknown>>> = {
      'a bearer token': () => byToken(addresses.web, next())('/mcp/files', call({})),
      'another scheme': () => byNothing(addresses.web, { authorization: `Basic ${next()}` })('/mcp/files', call({})),
      'a cookie and headers of others': () =>
        bot('/mcp/files', {
          ...call({}),
          headers: { ...call({}).headers, cookie: `s=${next()}`, 'x-api-key': next(), 'x-amz-security-token': next() },
        }),
      'the path': () => bot(`/mcp/${next()}`, call({})),
      'the path, without a credential': () => byNothing(addresses.data)(`/mcp/${next()}`, call({})),
      'the query': () => byNothing(addresses.web)(`/mcp/files?access_token=${next()}`, call({})),
      'an argument': () => bot('/mcp/files', call({ password: next(), text: `the token is ${next()}.` })),
      'the name of an argument': () => bot('/mcp/files', call({ [next()]: 1 })),
      'deep in an argument': () => bot('/mcp/files', call({ a: [{ b: `x\n${next()}` }] })),
      'the name of a tool': () => bot('/mcp/files', modern('tools/call', { name: next(), arguments: {} })),
      'a URI': () => bot('/mcp/files', modern('resources/read', { uri: `https://boris:${next()}@example.test/` })),
      'a method': () => post(legacy(next())),
      '`_meta`': () =>
        bot('/mcp/files', {
          ...call({}),
          body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'ok', _meta: { ...ENVELOPE, note: next() } } }),
        }),
      'an id': () => post(legacy('tools/call', { name: 'ok', arguments: {} }, next())),
      'a client name': () =>
        bot('/mcp/files', {
          body: legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: next(), version: '1' } }),
        }),
      'a protocol version': () =>
        bot('/mcp/files', { body: legacy('initialize', { protocolVersion: next(), capabilities: {}, clientInfo: { name: 'x', version: '1' } }) }),
      'a version header': () => post(legacy('ping'), { ...session, 'mcp-protocol-version': next() }),
      'a session id': () => post(legacy('ping'), { ...session, 'mcp-session-id': next() }),
      'a header of the call': () =>
        bot('/mcp/files', { ...call({}), headers: { ...call({}).headers, 'mcp-param-key': next(), traceparent: next() } }),
      'a header that lies': () =>
        bot('/mcp/files', { ...call({}), headers: { 'mcp-protocol-version': MODERN, 'mcp-method': 'tools/call', 'mcp-name': next() } }),
      'what is not JSON': () => post(`{"token":"${next()}"`),
      'what is ambiguous': () => post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"${next()}","params":{}}`),
      'a body of another type': () =>
        bot('/mcp/files', { body: `token=${next()}`, headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
      'an answer to nothing': () => post(JSON.stringify({ jsonrpc: '2.0', id: 'x', result: { token: next() } })),
      'the reason of a cancellation': () =>
        post(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1, reason: next() } })),
      'the error of a server': async () => {
        raw.behaviours.set('tools/call fails', ({ response }) => response.writeHead(500, { 'content-type': 'text/plain' }).end(next()))
        await bot('/mcp/files', modern('tools/call', { name: 'fails', arguments: {} }))
      },
      'the sealed secret, said by a client': () => bot('/mcp/files', call({ key: sealed })),
    }
    for (const place of Object.values(places)) await place().catch(() => undefined)
    assert.ok(
      raw.got.some(({ headers }) => headers['x-api-key'] === sealed),
      'the sealed secret was in use',
    )
    const { length } = all.records
    assert.ok(length > 20, 'much of it is on record')
    await bot('/mcp/files', call({ marker: 'the end' }))
    await eventually(() => all.records.length > length, 'all of it is written')
    const text = stored()
    assert.ok(text.includes('the end'), 'what is no secret can be found in the store: the search works')
    const found = Object.entries(Object.fromEntries([...used, sealed].map((one, i) => [i, one]))).filter(([, one]) => text.includes(one))
    assert.deepEqual(found, [], Object.keys(places).join(', '))
    assert.ok(used.length >= Object.keys(places).length - 1)

    // What a server says of its tools is kept as it is, so that a change can be shown; no record has it.
    const told = secret()
    raw.results.set('tools/list', `{"tools":[${tool('ok')},${tool('chatty', `,"description":"uses ${told}"`)}]}`)
    await bot('/mcp/files', modern('tools/list'))
    assert.ok(all.records.some(({ type }) => type === 'pin.seen'))
    assert.doesNotMatch(JSON.stringify(all.records), new RegExp(told))
  })

  test('rule 3: a call of a megabyte is on record, cut where it can be seen, and so is what comes after it (R69)', { timeout: 180_000 }, async () => {
    const large = 'x'.repeat(1024 * 1024)
    const { status } = await bot('/mcp/files', modern('tools/call', { name: 'ok', arguments: { large } }))
    assert.equal(status, 200)
    await bot('/mcp/files', modern('tools/call', { name: 'ok', arguments: { small: 'after it' } }))
    const intents = () => all.records.filter(({ type, action }) => type === 'action.intent' && action?.operation === 'tools/call')
    await eventually(
      () => JSON.stringify(intents().at(-1)?.bodies?.[0]?.size) === String(JSON.stringify({ small: 'after it' }).length),
      'both are written',
    )
    const [body] = intents().at(-2)!.bodies!
    const whole = JSON.stringify({ large })
    assert.equal(body?.cut?.size, whole.length)
    assert.match(body?.cut?.sha256 ?? '', /^[0-9a-f]{64}$/)
    const { records } = await all.home.dana.api.call<{ records: { seq: number }[] }>('GET', '/v1/audit?type=action.intent&limit=2')
    assert.equal(records.length, 2, 'a search does not stop at the long one')
  })

  test('rule 11: a client that makes noise hides nothing: what is refused meanwhile is still on record (R75)', { timeout: 180_000 }, async () => {
    const since = all.records.length
    const noise = Promise.all(Array.from({ length: 200 }, () => bot('/mcp/files', { body: '{"noise":', headers: {} })))
    const other = byCertificate(all.home.server.addresses.data, await all.credential('bot'))
    assert.match((await other('/mcp/nowhere', modern('tools/list'))).text, /There is no MCP server/)
    await noise
    await eventually(() => all.records.slice(since).filter(({ type }) => type === 'message.refused').length >= 201, 'every one of them is there')
    assert.equal(all.records.slice(since).filter(({ data }) => data?.server === 'nowhere').length, 1)
  })
})
