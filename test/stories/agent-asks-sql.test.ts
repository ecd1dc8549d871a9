import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import type { RequestDetail, RequestRow } from '../../src/api/requests-contract.ts'
import { openApi } from '../../src/client/api.ts'
import type { Held } from '../../src/client/credential.ts'
import type { Person } from '../../src/demo/person.ts'
import { startServer } from '../../src/server/start.ts'
import { apply, connect, door, freePort, governed, governedDatabase, invited, joined, unrenewed } from '../parts/governed.ts'

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
  const bot = await joined(dana, 'report-bot', '10m')
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

  const second = await api.call<RequestRow>('POST', '/v1/requests', { ...wish, for: '3s' })
  await decide(dana, second.id, 'approve')
  assert.equal((await insert(5)).rowCount, 1)
  const { ends_at: endsAt } = await server.parts.store.db
    .selectFrom('requests')
    .select('ends_at')
    .where('id', '=', second.id)
    .executeTakeFirstOrThrow()
  await new Promise((done) => setTimeout(done, endsAt! - Date.now() + 50))
  await assert.rejects(insert(6), { code: '42501' })
  assert.equal(await nameOf(6), undefined)
})
