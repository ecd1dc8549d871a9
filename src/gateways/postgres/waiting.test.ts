import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net'
import { after, before, beforeEach, test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { postgresGateway } from './gateway.ts'
import { bind, execute, message, sync } from './raw.fixture.ts'
import { type Rig, startRig, until } from './rig.fixture.ts'
import { cancelRequest, parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** A connection that waits for a human: what ends it, what waits behind it, and what must still be true when the answer comes. */
const ASKS = {
  allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }],
  ask: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: ['write', 'destroy', 'admin'] }],
}
const UPDATE = "update customers set name = 'new' where id = 3"

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ASKS] })
})
after(() => rig.stop())
beforeEach(async () => {
  rig.state.roles = [ASKS]
  limits({})
  rig.records.length = 0
  rig.approvals.rows.length = 0
  await rig.admin.query("update customers set name = 'customer ' || id")
})

function limits(more: Record<string, unknown>): void {
  const { spec } = rig.parts.resources.list('postgres')[0]! as { spec: Record<string, unknown> }
  spec.limits = { connections: 200, idle_in_transaction: '5m', ...more }
}
const nameOf = async (id: number) => (await rig.admin.query('select name from customers where id = $1', [id])).rows[0].name as string
const lastRow = () => rig.approvals.rows.at(-1)!
const asked = async (count = 1) => {
  await until(() => rig.approvals.rows.length === count && rig.approvals.waiting > 0)
  return lastRow()
}
const intents = () =>
  rig.records.filter(({ kind, action }) => kind === 'intent' && action.operation !== 'connect').map(({ action }) => action.operation)

test('a cancel ends the wait, as the server would say it, and the question stays', async () => {
  const client = await rig.connect('writer')
  const other = await rig.connect('writer')
  const first = assert.rejects(client.query(UPDATE), { code: '57014', message: 'canceling statement due to user request' })
  const row = await asked()
  await cancelled(client)
  await first
  assert.equal(row.state, 'pending')
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1)
  rig.approvals.approve(row)
  assert.equal((await other.query(UPDATE)).rowCount, 1, 'its approval is used by the same statement, wherever it is sent')
  await client.end()
  await other.end()
})

async function cancelled(client: unknown): Promise<void> {
  const { processID, secretKey } = client as { processID: number; secretKey: number }
  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  const socket = connectTcp(rig.port, '127.0.0.1')
  socket.end(cancelRequest(processID, secret))
  await once(socket.resume(), 'close')
}

test('rule 12: for a client that is gone nothing runs: a lost socket and a Terminate end the wait', async () => {
  for (const leave of ['lost', 'terminate', 'terminate behind it'] as const) {
    rig.approvals.rows.length = 0
    rig.records.length = 0
    const raw = await rig.raw('writer')
    raw.send(query(UPDATE), ...(leave === 'terminate behind it' ? [message('X')] : []))
    if (leave !== 'terminate behind it') await asked()
    if (leave === 'lost') raw.end()
    if (leave === 'terminate') raw.send(message('X'))
    await until(() => rig.gateway.connections === 0)
    await until(() => rig.approvals.waiting === 0)
    const row = rig.approvals.rows.at(-1)
    if (row) rig.approvals.approve(row)
    await new Promise((done) => setTimeout(done, 50))
    assert.equal(await nameOf(3), 'customer 3', leave)
    assert.deepEqual(intents(), [], leave)
    raw.end()
  }
})

test('rule 11: what a client sends behind it waits in order, has no permit yet, and may not be too much', async () => {
  const raw = await rig.raw('writer')
  raw.send(query(UPDATE), query('select 7'), parse('', 'select 8'), bind('', ''), execute(''), sync())
  const row = await asked()
  assert.deepEqual(intents(), [])
  rig.approvals.approve(row)
  assert.deepEqual(await raw.answers(3), ['N:01000', 'C:UPDATE 1', 'ZI', 'D:7', 'C:SELECT 1', 'ZI', '1', '2', 'D:8', 'C:SELECT 1', 'ZI'])
  assert.deepEqual(intents(), ['update', 'select', 'select'])

  raw.send(query("update customers set name = 'x' where id = 4"))
  await asked(2)
  raw.send(query(`select '${'x'.repeat(900_000)}'`), query(`select '${'y'.repeat(900_000)}'`))
  assert.equal((await raw.error()).get('M'), 'Chaperone: Too much was sent behind a statement that waits for a human.')
  await raw.until('Z')
  await raw.until('Z')
  await raw.until('Z')
  raw.end()
})

test('when the time is over it is refused with the request, and the same statement runs once after the yes', async () => {
  limits({ approval_wait: '1s' })
  const client = await rig.connect('writer')
  await assert.rejects(client.query(UPDATE), (error: { code: string; message: string; detail: string; hint: string }) => {
    assert.equal(error.code, '42501')
    assert.match(error.message, /^Chaperone has asked a human about this: UPDATE public\.customers\. Request req_1 is not answered yet\.$/)
    assert.match(error.detail, /reason approval_required, request req_1, https:\/\/chaperone\.test\/requests\/req_1, who can say yes: dana/)
    assert.match(error.hint, /Send exactly the same statement again/)
    return true
  })
  rig.approvals.approve(lastRow())
  assert.equal((await client.query(UPDATE)).rowCount, 1)
  assert.equal(rig.approvals.rows.length, 1)
  await assert.rejects(client.query(UPDATE), { code: '42501' })
  assert.equal(rig.approvals.rows.length, 2)
  await client.end()
})

test('rule 12: what was true when it was approved and is not any more is another question', async () => {
  const changes: readonly (readonly [string, string, string?])[] = [
    [
      'the table is dropped and made again',
      'alter table items rename to old; create table items (id int primary key, name text); grant all on items to writer',
      'drop table if exists old',
    ],
    ['it changes names with another', 'alter table items rename to swap; alter table twins rename to items; alter table swap rename to twins'],
    [
      'a trigger is added',
      'create function boo() returns trigger language plpgsql as $$ begin return new; end $$; create trigger boo before update on items for each row execute function boo()',
    ],
    [
      'the function of the trigger is replaced',
      "create or replace function boo() returns trigger language plpgsql as $$ begin new.name := 'boo'; return new; end $$",
    ],
    ['the trigger is switched off', 'alter table items disable trigger boo'],
    ['a column gets another default', "alter table items alter column name set default 'none'"],
    ['a row policy is added', 'alter table items enable row level security; create policy all_of on items using (true)'],
    ['the row policy is another', 'alter policy all_of on items using (id > 0)'],
    ['another table goes along with it', 'create table parts (item int references items on delete cascade)'],
    ['a rule runs instead', 'create rule instead as on update to items do also insert into touched values (1)'],
  ]
  await rig.admin.query(
    'create table items (id int primary key, name text); create table twins (id int primary key, name text); grant all on items, twins to writer',
  )
  const text = "update items set name = 'changed' where id = 1"
  for (const [what, change, undo] of changes) {
    const client = await rig.connect('writer')
    const count = rig.approvals.rows.length
    const first = client.query(text).catch(({ code }) => code)
    const row = await asked(count + 1)
    await rig.admin.query(change)
    rig.approvals.approve(row)
    const next = await asked(count + 2)
    assert.equal(row.state, 'approved', `${what}: its approval is not used`)
    rig.approvals.deny(next, 'not that')
    assert.equal(await first, '42501', what)
    row.state = 'expired'
    next.state = 'expired'
    assert.deepEqual(intents(), [], what)
    await client.end()
    if (undo) await rig.admin.query(undo)
  }
  await rig.admin.query('drop table items, twins, parts cascade')
})

test('rule 12: an approval is used once, however many send the statement at the same time', async () => {
  const text = 'update customers set name = name || $1 where id = 3'
  const clients = await Promise.all(Array.from({ length: 20 }, () => rig.connect('writer')))
  const all = clients.map((client) =>
    client.query({ text, values: ['!'] }).then(
      () => 'ran',
      ({ code }) => code,
    ),
  )
  await until(() => rig.approvals.waiting === 20)
  assert.equal(rig.approvals.rows.length, 1)
  rig.approvals.approve(lastRow())
  await until(async () => (await nameOf(3)) === 'customer 3!')
  await until(() => rig.approvals.rows.length > 1 && rig.approvals.rows[0]!.state === 'used')
  for (const row of rig.approvals.rows.slice(1)) rig.approvals.deny(row, 'once')
  const came = await Promise.all(all)
  assert.equal(came.filter((one) => one === 'ran').length, 1)
  assert.equal(await nameOf(3), 'customer 3!')
  await Promise.all(clients.map((client) => client.end()))
})

test('rules that change meanwhile are the rules that count', async () => {
  const client = await rig.connect('writer')
  const first = client.query(UPDATE)
  const row = await asked()
  rig.state.roles = [{ allow: ASKS.allow }]
  rig.approvals.approve(row)
  await assert.rejects(first, { code: '42501' })
  assert.equal(row.state, 'approved')
  assert.equal(await nameOf(3), 'customer 3')
  await client.end()
})

test('rule 12: a user who loses the role while he waits gets nothing by the yes, and with the connection’s own right it ends', async () => {
  const client = await rig.connect('writer')
  const first = client.query(UPDATE)
  const row = await asked()
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['reader'], can: 'read' }] }]
  for (const { controller } of [...rig.open.values()]) controller.abort(new ChaperoneError('no_rule', 'No rule allows this any more.'))
  await assert.rejects(first, { code: '57P01', message: /No rule allows this any more/ })
  await until(() => rig.approvals.waiting === 0)
  rig.approvals.approve(row)
  await until(() => rig.open.size === 0)
  assert.equal(row.state, 'approved', 'not used')
  assert.equal(await nameOf(3), 'customer 3')
  assert.deepEqual(intents(), [])
})

test('rule 11: so many wait at once and no more; a further one is told at once, keeps its connection, and a place that is left is taken', async () => {
  const gateway = postgresGateway({ ...rig.parts, limits: { waiting: 3 } })
  const server = createServer((socket) => gateway.accept(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = (server.address() as AddressInfo).port
  const clients = await Promise.all(Array.from({ length: 6 }, () => rig.connect('writer', { port })))
  const change = (id: number) => `update customers set name = 'many' where id = ${id}`
  const first = clients.slice(0, 3).map((client, i) => client.query(change(i)))
  await until(() => rig.approvals.waiting === 3)
  for (let round = 0; round < 3; round++) {
    for (const client of clients.slice(3)) {
      await assert.rejects(client.query(change(9)), (error: { code: string; message: string; hint: string }) => {
        assert.equal(error.code, '42501')
        assert.match(error.message, /Request req_4 is not answered yet/)
        assert.match(error.hint, /Send exactly the same statement again/)
        return true
      })
    }
  }
  assert.equal(rig.approvals.rows.length, 4, 'it is asked about all the same, once')
  assert.equal(rig.approvals.waiting, 3)
  const rowOf = (id: number) => rig.approvals.rows.find(({ call }) => JSON.parse(call.bound).text === change(id))!
  for (const id of [0, 1]) rig.approvals.deny(rowOf(id), 'no')
  await Promise.all(first.slice(0, 2).map((one) => assert.rejects(one)))
  const next = clients[3]!.query(change(9))
  await until(() => rig.approvals.waiting === 2)
  await Promise.all([clients[2]!.end().catch(() => {}), assert.rejects(first[2]!)])
  await until(() => rig.approvals.waiting === 1)
  rig.approvals.approve(rowOf(9))
  assert.equal((await next).rowCount, 1)
  assert.equal(rig.approvals.waiting, 0)
  await Promise.all(clients.map((client) => client.end()))
  await gateway.close()
  server.close()
  assert.equal(rig.open.size, 0)
})

test('psql shows where to say yes while it waits', async () => {
  const { PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY } = rig.connectionEnv('writer')
  const env = { ...process.env, PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY }
  const child = spawn('psql', ['-X', '-A', '-t'], { env })
  let said = ''
  child.stdout.on('data', (chunk) => (said += chunk))
  child.stderr.on('data', (chunk) => (said += chunk))
  child.stdin.write(`${UPDATE};\n`)
  const row = await asked()
  await until(() => said.includes(`NOTICE:  Chaperone asks a human about this: UPDATE public.customers. Request ${row.id}: https://`))
  assert.doesNotMatch(said, /UPDATE 1/)
  rig.approvals.approve(row)
  await until(() => said.includes('UPDATE 1'))
  child.stdin.end()
  await new Promise((done) => child.on('close', done))
})
