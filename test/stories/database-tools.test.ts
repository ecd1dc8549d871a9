import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import pg from 'pg'
import type { ResourceRow } from '../../src/api/contract.ts'
import type { Envelope } from '../../src/audit/record.ts'
import type { Held } from '../../src/client/credential.ts'
import { openLoopback } from '../../src/client/loopback.ts'
import { runShim } from '../../src/client/shim.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { called, connect, toolNames } from '../mcp/clients.ts'
import { byCertificate, byToken, type Door, legacy, modern, shakeHands } from '../mcp/whole.ts'
import { apply, governed, governedDatabase, invited, issued, unrenewed } from '../parts/governed.ts'
import { ask } from '../parts/house.ts'

interface Test {
  after(work: () => Promise<void>): void
}

const DOCUMENTS = (port: number) => `
kind: postgres
name: prod
labels: { env: prod }
spec: { address: "localhost:${port}", databases: [top_secret, Billing 2], credential_ttl: 5m }
---
kind: postgres
name: silent
labels: { env: prod }
spec: { address: "localhost:${port}", databases: [top_secret], mcp: false }
---
kind: role
name: analyst
spec:
  allow:
    - { postgres: { labels: { env: prod } }, databases: [top_secret, Billing 2], as: reader, can: read }
---
kind: postgres
name: staff
spec: { address: "localhost:${port}", databases: [top_secret], users: [owner, reader] }
---
kind: role
name: everywhere
spec:
  allow:
    - { postgres: staff, databases: any, as: any, can: [read, write] }
---
kind: role
name: by-name
spec:
  allow:
    - { postgres: prod, databases: [top_secret], as: ["{{identity.name}}", "team_*"], can: read }
---
kind: role
name: stranger
spec:
  allow:
    - { postgres: any, databases: [elsewhere], as: reader, can: read }
---
{ kind: user, name: boris, spec: { roles: [analyst] } }
---
{ kind: user, name: sam, spec: { roles: [stranger] } }
---
{ kind: user, name: ada, spec: { roles: [everywhere, by-name] } }
`

async function world(t: Test) {
  const { server, dana, dir } = await governed(t)
  const port = await freePort()
  await apply(dana, DOCUMENTS(port))
  const postgres = await governedDatabase(t, server, 'prod', { port, dir, user: 'reader' })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query('create database top_secret template postgres')
  await admin.query('create database "Billing 2" template postgres')
  await admin.end()
  await invited(t, dana, 'boris', dir)
  await invited(t, dana, 'sam', dir)
  const records: Envelope[] = []
  server.parts.audit.watch((envelope) => records.push(envelope))
  const held = await issued(dana, 'boris', '10m')
  const stranger = await issued(dana, 'sam', '10m')
  const audience = `https://${server.trustDomain}`
  const { token } = await dana.api.call<{ token: string }>('POST', '/v1/issue', { name: 'boris', token: { audience } })
  return { server, dana, records, held, stranger, door: byCertificate(server.addresses.data, held), bearer: byToken(server.addresses.web, token) }
}

type World = Awaited<ReturnType<typeof world>>

/** A client of the SDK, which holds every result against its output schema. */
async function client(t: Test, { held }: World, era: 'legacy' | 'modern', server: string | undefined) {
  const loopback = await openLoopback({ server, keeper: unrenewed(held) })
  t.after(() => loopback.close())
  return connect(t, era, { url: loopback.url })
}

const COUNT = { sql: 'select count(*) from things where name <> $1', params: [''] }

/** The shim, as a desktop client starts it: the answer to one call of `query`. */
async function throughShim(held: Held, server: string | undefined, era: 'legacy' | 'modern', name: string, args: object): Promise<string> {
  const [input, output] = [new PassThrough(), new PassThrough()]
  const exit = runShim({ server, input, output, say: () => {}, connect: async () => unrenewed(held) })
  const params = { name, arguments: args }
  const hello = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'shim', version: '1' } }
  const lines =
    era === 'modern'
      ? [modern('tools/call', params, 'the call').body]
      : [
          legacy('initialize', hello, 'hello'),
          JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
          legacy('tools/call', params, 'the call'),
        ]
  for (const line of lines) input.write(`${line}\n`)
  let said = ''
  for await (const chunk of output) {
    said += chunk
    if (/"the call".*\n/.test(said)) break
  }
  input.end()
  await exit
  return said.split('\n').find((line) => line.includes('"the call"')) ?? ''
}

describe('the tools of a database', () => {
  let given: World
  const undo: (() => Promise<void>)[] = []
  before(async () => {
    given = await world({ after: (work) => void undo.push(work) })
  })
  after(async () => {
    for (const work of undo.reverse()) await work()
  })

  for (const era of ['legacy', 'modern'] as const) {
    test(`a ${era} client lists and calls them, at their own endpoint and among all`, async (t) => {
      const own = await client(t, given, era, 'prod/top_secret')
      assert.deepEqual(await toolNames(own), ['query', 'list_tables', 'describe_table', 'explain'])
      assert.match(await called(own, 'query', COUNT), /^Rows 1 to 1\. .*\n\[2\]\n/s)
      // The SDK throws where a result is not what the output schema says.
      assert.match(await called(own, 'list_tables'), /\["public","things","table",/)
      assert.match(await called(own, 'explain', { ...COUNT, analyze: true }), /Actual Rows/)
      assert.match(await called(own, 'query', { sql: 'select id from things order by id', max_rows: 1 }), /The next page: cursor/)
      const { tools } = await own.listTools()
      const query = tools.find(({ name }) => name === 'query')!
      // Nothing that the role allows could write.
      assert.deepEqual(query.annotations, { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false })
      assert.match(JSON.stringify(query.inputSchema), /You may use reader\. Default: reader\./)

      const all = await client(t, given, era, undefined)
      const names = await toolNames(all)
      assert.ok(names.includes('prod_top_secret__query'), names.join())
      assert.ok(
        names.every((name) => /^[a-zA-Z0-9_-]{1,64}$/.test(name)),
        names.join(),
      )
      const billing = names.find((name) => /^prod_billing-2-[0-9a-f]{8}__query$/.test(name))!
      assert.match(await called(all, billing, COUNT), /\n\[2\]\n/)
      assert.match(await called(all, 'prod_top_secret__describe_table', { table: 'things' }), /"primary_key":\["id"\]/)
      assert.match(await called(all, 'prod_top_secret__query', { sql: 'drop table things' }), /^Chaperone refused this: DROP /)
    })
  }

  test('rule 9: every way in is one action, the SQL one, via mcp, and no action of MCP', async () => {
    const { held, door, bearer, records } = given
    const call = { name: 'query', arguments: COUNT }
    const among = 'prod_top_secret__query'
    const overHttp = (way: Door, path: string, name: string) => async () => (await way(path, modern('tools/call', { ...call, name }))).text
    const inSession = (path: string, version: string, body: string) => async () =>
      (await door(path, { headers: await shakeHands(door, path, version), body })).text
    const ways: Record<string, () => Promise<string>> = {
      'modern, mTLS': overHttp(door, '/mcp/prod/top_secret', 'query'),
      'modern, bearer': overHttp(bearer, '/mcp/prod/top_secret', 'query'),
      'modern, all servers': overHttp(door, '/mcp', among),
      legacy: inSession('/mcp/prod/top_secret', '2025-11-25', legacy('tools/call', call)),
      'legacy, all servers': inSession('/mcp', '2025-11-25', legacy('tools/call', { ...call, name: among })),
      'a batch of 2025-03-26': inSession('/mcp/prod/top_secret', '2025-03-26', `[${legacy('tools/call', call)}]`),
      'shim, legacy': () => throughShim(held, 'prod/top_secret', 'legacy', 'query', COUNT),
      'shim, modern': () => throughShim(held, 'prod/top_secret', 'modern', 'query', COUNT),
      'shim, all servers': () => throughShim(held, undefined, 'legacy', among, COUNT),
    }
    for (const [name, way] of Object.entries(ways)) {
      records.length = 0
      const said = await way()
      assert.match(said, /"rows":\[\[2\]\]/, `${name}: ${said}`)
      const made = records.filter(({ type }) => type === 'action.intent').map(({ action }) => [action?.kind, action?.operation, action?.via])
      assert.deepEqual(made.filter(([, operation]) => operation !== 'connect').map(String), ['postgres,select,mcp'], name)
      assert.deepEqual([...new Set(made.map(([kind, , via]) => `${kind} ${via}`))], ['postgres mcp'], name)
    }
  })

  test('the trace of the client stands in the record of each statement, and no other call has it', async () => {
    const { door, records } = given
    const trace = '0af7651916cd43dd8448eb211c80319c'
    const call = (id: number) => modern('tools/call', { name: 'query', arguments: COUNT }, id)
    records.length = 0
    const traced = call(1)
    await door('/mcp/prod/top_secret', { ...traced, headers: { ...traced.headers, traceparent: `00-${trace}-b7ad6b7169203331-01` } })
    await door('/mcp/prod/top_secret', call(2))
    const traces = records.filter(({ type, action }) => type === 'action.intent' && action?.operation === 'select').map((record) => record.trace)
    assert.deepEqual(traces, [trace, undefined])
  })

  test('rule 8: who may not connect sees neither the server nor its tools, and it answers like one that does not exist', async () => {
    const { server, stranger, records } = given
    const door = byCertificate(server.addresses.data, stranger)
    records.length = 0
    const hidden = await door('/mcp/prod/top_secret', modern('tools/list'))
    const absent = await door('/mcp/prod/top_secreT', modern('tools/list'))
    const off = await door('/mcp/silent/top_secret', modern('tools/list'))
    assert.equal(hidden.status, 404)
    assert.equal(hidden.text.replace('top_secret', 'top_secreT'), absent.text)
    assert.equal(off.status, 404)
    assert.equal(records.filter(({ type }) => type === 'message.refused').length, 3)
    const list = JSON.parse((await door('/mcp', modern('tools/list'))).text)
    assert.deepEqual(list.result.tools, [])
    assert.equal((await given.door('/mcp/silent/top_secret', modern('tools/list'))).status, 404)
  })

  test('whom one may be, and what one could do, stands in the tools', async () => {
    const { server, dana } = given
    const door = byCertificate(server.addresses.data, await issued(dana, 'ada', '10m'))
    const toolsAt = async (path: string) => JSON.parse((await door(path, modern('tools/list'))).text).result.tools
    const [staff] = await toolsAt('/mcp/staff/top_secret')
    assert.match(staff.inputSchema.properties.as.description, /You may use owner, reader\. Default: owner\./)
    assert.deepEqual(staff.annotations, { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true })
    const [prod] = await toolsAt('/mcp/prod/top_secret')
    assert.match(prod.inputSchema.properties.as.description, /You may use ada, and others that your rules name by a pattern\. Default: ada\./)
    assert.equal((await door('/mcp/prod/Billing%202', modern('tools/list'))).status, 404)
    const named = modern('tools/call', { name: 'query', arguments: { ...COUNT, as: 'reader' } })
    assert.match((await door('/mcp/staff/top_secret', named)).text, /"isError":true/)
  })

  test('names that lead nowhere are refused, and a broken escape is no name', async () => {
    for (const path of ['/mcp/prod/', '/mcp/prod/top_secret/x', '/mcp/prod/%ff', '/mcp/prod%2Ftop_secret', '/mcp/prod/top_secret%00'])
      assert.equal((await given.door(path, modern('tools/list'))).status, 404, path)
    const taken = 'kind: mcp\nname: prod/top_secret\nspec: { command: [x] }\n'
    await assert.rejects(apply(given.dana, taken), /name/)
    assert.equal((await given.door('/mcp/prod/Billing%202', modern('tools/list'))).status, 200)
  })

  test('what never becomes a statement is recorded as a message that was refused, and told to the model', async () => {
    const { door, records } = given
    for (const [args, says] of [
      [{}, /There is no SQL/],
      [{ sql: 'select $1', params: [[1]] }, /params/],
      [{ sql: 'select $1', params: ['x'], more: 1 }, /do not fit/],
      [{ cursor: 'nix' }, /no such cursor/],
    ] as const) {
      records.length = 0
      const { result } = JSON.parse((await door('/mcp/prod/top_secret', modern('tools/call', { name: 'query', arguments: args }))).text)
      assert.equal(result.isError, true)
      assert.match(result.content[0].text, says)
      assert.deepEqual(
        // What else ends meanwhile, of calls before this one, is on record as well.
        records.map(({ type }) => type).filter((type) => ['message.refused', 'action.intent', 'action.refused'].includes(type)),
        ['message.refused'],
      )
    }
    const lossy = modern('tools/call', { name: 'query', arguments: { sql: 'select $1::int8', params: [1] } })
    const { text } = await door('/mcp/prod/top_secret', { ...lossy, body: lossy.body.replace('[1]', '[9007199254740993]') })
    assert.match(text, /more digits than JSON keeps/)
    assert.match((await door('/mcp/prod/top_secret', modern('tools/call', { name: 'drop_all' }))).text, /-32602.*Unknown tool/)
  })

  test('`mcp ls` shows the servers of databases to whom they are for', async () => {
    const { dana, held, stranger, server } = given
    const seen = async (who: Held) => {
      const { text } = await ask(server.addresses.data, '/v1/resources/mcp', { key: who.key, cert: who.certificate })
      return (JSON.parse(text) as { resources: ResourceRow[] }).resources
    }
    assert.deepEqual(
      (await seen(held)).map(({ name, address }) => [name, address.replace(/:\d+/, '')]),
      [
        ['prod/Billing 2', 'https://127.0.0.1/mcp/prod/Billing%202'],
        ['prod/top_secret', 'https://127.0.0.1/mcp/prod/top_secret'],
      ],
    )
    assert.deepEqual(await seen(stranger), [])
    assert.ok(dana)
  })

  test('a stream and the end of a session are as the protocol wants them', async () => {
    const { door } = given
    const session = await shakeHands(door, '/mcp/prod/top_secret')
    assert.equal((await door('/mcp/prod/top_secret', { method: 'GET', headers: session })).status, 405)
    assert.equal((await door('/mcp/prod/top_secret', { method: 'DELETE', headers: session })).status, 204)
    assert.equal((await door('/mcp/prod/top_secret', { headers: session, body: legacy('tools/list') })).status, 404)
    const listened = await door('/mcp/prod/top_secret', modern('subscriptions/listen', { notifications: { toolsListChanged: true } }))
    assert.match(listened.text, /subscriptions\/acknowledged.*"resultType":"complete"/s)
  })

  test('rule 6: a lock on the person stops the tools at once', async () => {
    const { dana, door } = given
    const body = modern('tools/call', { name: 'query', arguments: COUNT })
    assert.match((await door('/mcp/prod/top_secret', body)).text, /"rows"/)
    const database = () => given.server.parts.guard.underWay().filter(({ kind }) => kind === 'postgres').length
    assert.ok(database() > 0, 'a connection waits for the next call')
    const lock = await dana.api.call<{ id: string }>('POST', '/v1/locks', { target: 'boris', kind: 'identity', reason: 'test' })
    assert.doesNotMatch((await door('/mcp/prod/top_secret', body)).text, /"rows"/)
    assert.equal(database(), 0)
    await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
    assert.match((await door('/mcp/prod/top_secret', body)).text, /"rows"/)
  })
})
