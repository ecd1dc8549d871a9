import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import type { LockRow } from '../../src/api/contract.ts'
import type { RequestDetail, RequestRow } from '../../src/api/requests-contract.ts'
import type { Envelope } from '../../src/audit/record.ts'
import { openApi } from '../../src/client/api.ts'
import type { Held } from '../../src/client/credential.ts'
import { freePort } from '../../src/demo/free-port.ts'
import type { Person } from '../../src/demo/person.ts'
import { startServer } from '../../src/server/start.ts'
import { byCertificate, legacy, modern, shakeHands } from '../mcp/whole.ts'
import { apply, connect, door, governed, governedDatabase, invited, joined, unrenewed } from '../parts/governed.ts'
import { until } from '../parts/holding.ts'

interface Test {
  after(work: () => Promise<void>): void
}

const DOCUMENTS = (port: number, wait: string) => `
kind: postgres
name: prod
spec: { address: "localhost:${port}", databases: [postgres], limits: { approval_wait: ${wait} } }
---
kind: role
name: reporter
spec:
  allow:
    - { postgres: prod, databases: [postgres], as: app, can: read }
  ask:
    - { postgres: prod, databases: [postgres], as: app, statements: [update], approvers: { role: dba } }
  request:
    - { role: fixer, max: 30m, reason: required, approvers: { role: dba } }
---
kind: role
name: fixer
spec:
  allow:
    - { postgres: prod, databases: [postgres], as: app, statements: [insert, delete], can: [read, write, destroy] }
---
{ kind: role, name: dba, spec: {} }
---
{ kind: user, name: dana, spec: { roles: [admin, dba] } }
---
{ kind: user, name: olga, spec: { roles: [admin] } }
---
{ kind: user, name: boris, spec: { roles: [reporter, dba] } }
---
{ kind: agent, name: report-bot, spec: { owner: boris, roles: [reporter] } }
`

async function world(t: Test, wait = '2m') {
  const [dataPort, webPort, sqlPort, port] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const listen = { listen: `127.0.0.1:${dataPort}`, webListen: `127.0.0.1:${webPort}`, postgresListen: `127.0.0.1:${sqlPort}` }
  const { server, dana, dir } = await governed(t, listen)
  await apply(dana, DOCUMENTS(port, wait))
  const postgres = await governedDatabase(t, server, 'prod', { port, dir, user: 'app' })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  // The cluster of the test ends before its connections do.
  admin.on('error', () => {})
  await admin.connect()
  await admin.query('grant all on things to app')
  const boris = await invited(t, dana, 'boris', dir)
  // Not by dana: whoever makes the token decides about nothing that is asked with it.
  const bot = await joined(await invited(t, dana, 'olga', dir), 'report-bot', '10m')
  return {
    server,
    dana,
    boris,
    bot,
    admin,
    dir,
    listen,
    nameOf: async (id: number) => (await admin.query('select name from things where id = $1', [id])).rows[0]?.name,
  }
}

const connected = async (t: Test, held: Held) => connect(t, await door(t, unrenewed(held), 'prod', 'postgres'), 'app', 'postgres')

/** What waits for somebody's answer, once it is there. */
async function waiting(who: Person, count = 1): Promise<RequestRow> {
  for (;;) {
    const { requests } = await who.api.call<{ requests: RequestRow[] }>('GET', '/v1/requests?state=pending')
    if (requests.length >= count) return requests[0]!
    await new Promise((done) => setTimeout(done, 20))
  }
}

async function decide(who: Person, id: string, verdict: 'approve' | 'deny', reason?: string): Promise<RequestDetail> {
  const shown = await who.api.call<RequestDetail>('GET', `/v1/requests/${id}`)
  await who.api.call('POST', `/v1/requests/${id}/decide`, { verdict, seen: shown.seen, ...(reason === undefined ? {} : { reason }) })
  return shown
}

const UPDATE = "update things set name = 'changed' where id = 1"

test('rule 12: an agent asks for one UPDATE; dana sees exactly that and approves, it runs once, and the second time is asked anew', async (t) => {
  const { dana, boris, bot, server, nameOf } = await world(t)
  const client = await connected(t, bot)
  const noticed = new Promise<string>((done) => client.once('notice', ({ message }) => done(message ?? '')))
  const first = client.query(UPDATE)
  const row = await waiting(dana)
  assert.match(await noticed, new RegExp(`Request ${row.id}: https://.*/requests/${row.id}`))
  await assert.rejects(decide(boris, row.id, 'approve'), { code: 'approval_refused' }, 'nobody approves for his own agent')
  const shown = JSON.stringify(await decide(dana, row.id, 'approve'))
  assert.match(shown, /update things set name = 'changed' where id = 1/)
  assert.match(shown, /about 1, as the planner of the database thinks/)
  assert.equal((await first).rowCount, 1)
  assert.equal(await nameOf(1), 'changed')
  const second = client.query(UPDATE).catch((error) => error)
  const again = await waiting(dana)
  assert.notEqual(again.id, row.id)
  await decide(dana, again.id, 'deny', 'once was enough')
  const error = await second
  assert.equal(error.code, '42501')
  assert.match(error.message, /once was enough/)
  const kept = await server.parts.store.db.selectFrom('requests').select(['state', 'outcome']).where('id', '=', row.id).executeTakeFirstOrThrow()
  assert.deepEqual(kept, { state: 'used', outcome: 'ok' })
})

test('rule 12: an approval survives a restart, and twenty connections at once use it once', async (t) => {
  const { dana, bot, server, admin, dir, listen } = await world(t, '1s')
  const text = "update things set name = name || '!' where id = 2"
  const client = await connected(t, bot)
  await assert.rejects(client.query(text), (error: { code: string; detail: string }) => error.code === '42501' && /request req_/.test(error.detail))
  await decide(dana, (await waiting(dana)).id, 'approve')
  await client.end()
  await server.stop('restart')
  const next = await startServer({ dataDir: join(dir, 'data'), ...listen, logLevel: 'silent' })
  t.after(() => next.stop())
  const clients = await Promise.all(Array.from({ length: 20 }, () => connected(t, bot)))
  const came = await Promise.all(
    clients.map((one) =>
      one.query(text).then(
        () => 'ran',
        ({ code }) => code as string,
      ),
    ),
  )
  assert.equal(came.filter((one) => one === 'ran').length, 1, came.join())
  assert.equal(came.filter((one) => one === '42501').length, 19, came.join())
  assert.equal((await admin.query('select name from things where id = 2')).rows[0].name, 'two!')
})

test('rule 7: a granted role works in the live connection, and ends in it', async (t) => {
  const { dana, bot, server, nameOf } = await world(t)
  const client = await connected(t, bot)
  const insert = (id: number) => client.query('insert into things values ($1, $2)', [id, 'new'])
  await assert.rejects(insert(3), (error: { code: string; hint: string }) => {
    assert.equal(error.code, '42501')
    assert.match(error.hint, /may ask for role fixer/)
    return true
  })
  const { profile } = bot
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  t.after(async () => api.close())
  const wish = { kind: 'access', role: 'fixer', reason: 'two rows are missing' }
  const first = await api.call<RequestRow>('POST', '/v1/requests', { ...wish, for: '10m' })
  await decide(dana, first.id, 'approve')
  assert.equal((await insert(3)).rowCount, 1)
  await dana.api.call('POST', `/v1/requests/${first.id}/revoke`, { reason: 'enough' })
  await assert.rejects(insert(4), { code: '42501' })
  assert.equal((await client.query('show default_transaction_read_only')).rows.length, 1, 'the connection lives on')

  const second = await api.call<RequestRow>('POST', '/v1/requests', { ...wish, for: '10m' })
  await decide(dana, second.id, 'approve')
  assert.equal((await insert(5)).rowCount, 1)
  // Its end is near now; when it comes nothing happens but that.
  const endsAt = Date.now() + 300
  const { store, raised } = server.parts
  const { epoch } = await store.reduce((trx) => trx.updateTable('requests').set({ ends_at: endsAt }).where('id', '=', second.id).execute())
  await raised(epoch)
  await new Promise((done) => setTimeout(done, endsAt - Date.now() + 50))
  await assert.rejects(insert(6), { code: '42501' })
  assert.equal(await nameOf(6), undefined)
})

const TOOL = { name: 'query', arguments: { sql: 'update things set name = $1 where id = 2', params: ['by tool'] } }
const resultOf = (text: string) =>
  JSON.parse(
    text
      .split('\n')
      .findLast((line) => line.includes('"result"'))!
      .replace(/^data: /, ''),
  ).result

test('rule 12: a tool of a database waits as any call of its era does, and what is approved is the SQL', async (t) => {
  const { dana, bot, server, nameOf } = await world(t)
  const records: Envelope[] = []
  server.parts.audit.watch((envelope) => records.push(envelope))
  const at = byCertificate(server.addresses.data, bot)
  const first = resultOf((await at('/mcp/prod/postgres', modern('tools/call', TOOL))).text)
  const row = await waiting(dana)
  assert.equal(first.resultType, 'input_required')
  assert.equal(first._meta['dev.chaperone/parked'].request, row.id)
  assert.match(row.resource ?? '', /^postgres\/prod$/)
  const { requestState } = first
  const wrong = { ...TOOL, arguments: { ...TOOL.arguments, params: ['another'] }, requestState }
  assert.equal(resultOf((await at('/mcp/prod/postgres', modern('tools/call', wrong, 2))).text).resultType, 'input_required')
  const another = await waiting(dana, 2)
  assert.notEqual(another.id, row.id, 'another value is another question, whatever it brings back')
  await decide(dana, another.id, 'deny', 'not that')
  const held = at('/mcp/prod/postgres', modern('tools/call', { ...TOOL, requestState }, 3))
  assert.match(JSON.stringify(await decide(dana, row.id, 'approve')), /\$1 = \\"by tool\\"/)
  assert.equal(resultOf((await held).text).structuredContent.command, 'UPDATE 1')
  assert.equal(await nameOf(2), 'by tool')
  assert.equal(resultOf((await at('/mcp/prod/postgres', modern('tools/call', { ...TOOL, requestState }, 4))).text).resultType, 'input_required')

  // In the era of sessions it is held, shown its page, and told of progress.
  const session = await shakeHands(at, '/mcp/prod/postgres', '2025-11-25', { elicitation: { url: {} } })
  const again = await waiting(dana)
  const asked = Promise.withResolvers<void>()
  server.parts.audit.watch(({ type, request }) => type === 'action.asked' && request === again.id && asked.resolve())
  const call = at('/mcp/prod/postgres', { headers: session, body: legacy('tools/call', { ...TOOL, _meta: { progressToken: 'p' } }) })
  await asked.promise
  await decide(dana, again.id, 'approve')
  const { text } = await call
  assert.match(text, new RegExp(`notifications/progress.*requests/${again.id}`))
  assert.match(text, new RegExp(`elicitation/create.*requests/${again.id}`))
  assert.equal(resultOf(text).structuredContent.command, 'UPDATE 1')
  const last = at('/mcp/prod/postgres', { headers: session, body: legacy('tools/call', TOOL) })
  await decide(dana, (await waiting(dana)).id, 'deny', 'twice is enough')
  assert.match(resultOf((await last).text).content[0].text, /twice is enough/)

  const acted = records.filter(({ action, type }) => type.startsWith('action.') && action?.effects.includes('write'))
  assert.ok(acted.every(({ action }) => action?.resource.kind === 'postgres'))
  assert.equal(acted.filter(({ type, decision }) => type === 'action.intent' && decision?.verdict === 'ask').length, 2)
})

test('rule 6: a lock refuses what waits for a human at once, a statement and a tool, and leaves the rest waiting', async (t) => {
  const { dana, bot, server } = await world(t)
  const told: string[] = []
  server.parts.audit.watch(({ type }) => void told.push(type))
  const asked = () => told.filter((type) => type === 'action.asked').length
  const statement = (await connected(t, bot)).query(UPDATE).catch((error) => error)
  await waiting(dana)
  const at = byCertificate(server.addresses.data, bot)
  const session = await shakeHands(at, '/mcp/prod/postgres')
  const tool = at('/mcp/prod/postgres', { headers: session, body: legacy('tools/call', TOOL) })
  await waiting(dana, 2)
  await until(() => asked() === 2)
  await dana.freshFactor()
  await apply(dana, '{ kind: role, name: nobody, spec: {} }')
  const lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'resource', target: 'postgres/prod', reason: 'incident 7' })
  const { code, message } = await statement
  assert.match(`${code} ${message}`, /^(42501|57P01) .*incident 7/)
  const { isError, content } = resultOf((await tool).text)
  assert.equal(isError, true)
  assert.match(content[0].text, /incident 7/)
  assert.equal(asked(), 2, 'looking again asks nobody')
  await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
})
