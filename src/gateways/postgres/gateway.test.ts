import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { after, before, beforeEach, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { ChaperoneError } from '../../errors.ts'
import { ANYTHING, READER, type Rig, startRig, until, WRITER } from './rig.fixture.ts'
import { cancelRequest, queryMessage, sslRequest, startupPacket } from './wire/write.ts'

let rig: Rig
before(async () => {
  rig = await startRig()
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [READER]
  rig.state.guardrails = []
  rig.records.length = 0
  rig.events.length = 0
})

test('rule 3: psql reads through the gateway, and every statement is recorded with its text and its rows', async () => {
  const { code, out, err } = await rig.psql('reader', ['select count(*) from customers', 'select name from customers where id = 3'])
  assert.equal(err, '')
  assert.equal(code, 0)
  assert.equal(out, '50\ncustomer 3\n')
  const [connect, first, second] = rig.records
  assert.equal(connect?.action.operation, 'connect')
  assert.equal(connect?.outcome?.status, 'ok')
  assert.equal(first?.bodies.statement, 'select count(*) from customers')
  assert.equal(first?.action.summary, 'SELECT public.customers')
  assert.deepEqual([second?.outcome?.status, second?.outcome?.facts?.rows], ['ok', 1])
  await until(() => rig.events.length === 2)
  assert.deepEqual(
    rig.events.map((event) => event.type),
    ['connection.opened', 'connection.closed'],
  )
})

test('rule 8: a refusal says code, rule, decision and what to do, and the connection lives on', async () => {
  const client = await rig.connect('writer')
  await assert.rejects(
    client.query('drop table customers'),
    (error: { code: string; detail: string; hint: string; message: string; severity: string }) => {
      assert.equal(error.severity, 'ERROR')
      assert.equal(error.code, '42501')
      assert.match(error.message, /^Chaperone refused this: DROP public\.customers\./)
      assert.match(error.detail, /reason no_rule, decision per_\d+/)
      assert.match(error.hint, /./)
      return true
    },
  )
  assert.equal((await client.query('select count(*)::int as n from customers')).rows[0].n, 50)
  await client.end()
  assert.equal(rig.records.find((record) => record.kind === 'refused')?.bodies.statement, 'drop table customers')
})

test('a rule on tables that counts because nobody can look into the code is said to, and no other', async () => {
  const roles = rig.state.roles
  const allow = [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any' }]
  const hintOf = async (sql: string, role: Record<string, unknown>) => {
    rig.state.roles = [role]
    const client = await rig.connect('writer')
    const error = await client.query(sql).then(
      () => assert.fail('it ran'),
      (thrown: { code: string; hint: string }) => thrown,
    )
    assert.equal(error.code, '42501')
    await client.end()
    return error.hint
  }
  try {
    const denies = { allow, deny: [{ postgres: 'any', tables: ['public.customers'] }] }
    const unseen = /^What it touches cannot be told from its text \(code runs in it that cannot be looked into/
    assert.match(await hintOf('do $$ begin perform 1; end $$', denies), unseen)
    assert.match(
      await hintOf('select touch_quietly(1)', denies),
      /looked into: .*touch_quietly\), so a rule that denies tables counts for it\. Nothing reached/,
    )
    assert.match(
      await hintOf('select touch_quietly(1)', { allow: [{ ...allow[0], tables: ['public.orders'] }] }),
      /so a rule that allows only some tables does not\. Nothing reached/,
    )
    assert.match(await hintOf('select * from customers', denies), /^Nothing reached/)
  } finally {
    rig.state.roles = roles
  }
})

test('the database sees who acts and on whose behalf', async () => {
  const client = await rig.connect('reader')
  const { rows } = await client.query("select current_setting('application_name') as name")
  assert.match(rows[0].name, /^chaperone:boris>boris-ai ses_[0-9a-z]{26}$/)
  await client.end()
})

test('rule 9: parameters are recorded, and prepared statements are judged each time they run', async () => {
  const client = await rig.connect('reader')
  const ask = { name: 'by-id', text: 'select name from customers where id = $1', values: [7] }
  assert.equal((await client.query(ask)).rows[0].name, 'customer 7')
  const record = rig.records.at(-1)!
  assert.equal(record.bodies.statement, ask.text)
  assert.equal(record.bodies.parameters, '["7"]')
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read', tables: ['public.orders'] }] }]
  await assert.rejects(client.query({ ...ask, values: [8] }), { code: '42501' })
  rig.state.roles = [READER]
  assert.equal((await client.query({ ...ask, values: [9] })).rows[0].name, 'customer 9')
  await client.end()
})

test('a refusal inside a transaction aborts it where it lives, until ROLLBACK', async () => {
  rig.state.roles = [WRITER]
  const client = await rig.connect('writer')
  await client.query('begin')
  await client.query("insert into touched values ('one')")
  await assert.rejects(client.query('drop table touched'), { code: '42501' })
  await assert.rejects(client.query('select 1'), { code: '25P02' })
  await client.query('rollback')
  assert.equal((await client.query('select count(*)::int as n from touched')).rows[0].n, 0)
  // and the same in the extended protocol
  await client.query('begin')
  await client.query('insert into touched values ($1)', ['two'])
  await assert.rejects(client.query('drop table touched -- $1', []), { code: '42501' })
  await assert.rejects(client.query('drop table touched where $1', ['x']), { code: '42601' })
  await client.query('rollback')
  assert.equal((await client.query('select count(*)::int as n from touched')).rows[0].n, 0)
  await client.end()
})

test('COPY in and out passes, and is recorded with its rows', async () => {
  rig.state.roles = [WRITER]
  const { code, err } = await rig.psql('writer', ['\\copy touched from stdin'], { input: 'a\nb\nc\n\\.\n' })
  assert.equal(err, '')
  assert.equal(code, 0)
  const out = await rig.psql('writer', ['copy (select what from touched order by 1) to stdout'])
  assert.equal(out.out, 'a\nb\nc\n')
  await rig.admin.query('truncate touched')
  const copies = rig.records.filter((record) => record.action.operation === 'copy')
  assert.deepEqual(
    copies.map((record) => record.outcome?.facts?.rows),
    [3, 3],
  )
})

test('several statements in one text: each is judged and recorded, all are refused when one is', async () => {
  const client = await rig.connect('writer')
  await client.query('select 1; select count(*) from orders')
  assert.deepEqual(
    rig.records.slice(-2).map((record) => record.bodies.statement),
    ['select 1', 'select count(*) from orders'],
  )
  await assert.rejects(client.query('select 1; delete from orders where id = 1; select 2'), { code: '42501' })
  assert.equal(rig.records.at(-1)?.kind, 'refused')
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 200)
  await client.end()
})

test('rule 8: what may not be seen looks like what does not exist', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'other', databases: ['x'], as: 'any', can: 'read' }] }]
  const hidden = await rig.psql('reader', ['select 1'])
  const missing = await rig.psql('reader', ['select 1'], { database: 'nothing/shop' })
  assert.match(hidden.err, /there is no such database, or not for this identity/)
  assert.equal(hidden.err, missing.err)
})

test('rule 6: a cut connection says why, and the statement that ran is recorded as unknown', async () => {
  rig.state.roles = [ANYTHING]
  const client = await rig.connect('reader')
  const slow = client.query('select pg_sleep(30)')
  const ended = new Promise((done) => client.once('error', done))
  await until(
    async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")).rowCount === 1,
  )
  rig.connections.at(-1)!.cut(new ChaperoneError('locked', 'A lock stops this.'))
  await assert.rejects(slow, { code: '57P01', message: /A lock stops this/ })
  await ended
  await until(() => rig.records.at(-1)?.outcome?.status === 'unknown')
  await until(
    async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")).rowCount === 0,
  )
})

test('rule 6: a database that its document no longer names is not reached over a connection that is open', async (t) => {
  rig.state.roles = [READER]
  const client = await rig.connect('reader')
  const { resources } = rig.parts
  const { find } = resources
  const applied = find('postgres', 'prod')!
  const applyAnew = (change: object) => Object.assign(resources, { find: () => ({ ...applied, spec: { ...(applied.spec as object), ...change } }) })
  t.after(() => Object.assign(resources, { find }))
  applyAnew({})
  assert.equal((await client.query('select 1 as n')).rows[0].n, 1)
  applyAnew({ databases: ['other'] })
  await assert.rejects(client.query('select 1'), { code: '57P01', message: /definition of the database has changed/ })
})

test('rule 3: a startup that is refused is on record, with who tried', async () => {
  await assert.rejects(rig.raw('reader', { options: '-c session_preload_libraries=evil' }), /not accepted/)
  const { type, actor, data } = rig.events.at(-1)!
  assert.deepEqual([type, actor?.name, data?.reason], ['message.refused', 'boris-ai', 'unsupported'])
})

test('cancel reaches the statement of the own connection only', async () => {
  rig.state.roles = [ANYTHING]
  const client = await rig.connect('reader')
  const slow = client.query('select pg_sleep(30)')
  await until(
    async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")).rowCount === 1,
  )
  // Its end may come before that of the connection which asked for it.
  const cancelled = assert.rejects(slow, { code: '57014' })
  const own = client as unknown as { processID: number; secretKey: number }
  await sendCancel(rig.port, own.processID, own.secretKey ^ 1)
  await sendCancel(rig.port, own.processID, own.secretKey)
  await cancelled
  assert.equal((await client.query('select 1 as n')).rows[0].n, 1)
  await client.end()
})

test('a cancel over TLS works for the identity that holds the connection, and for no other', async () => {
  rig.state.roles = [ANYTHING]
  const client = await rig.connect('reader')
  const slow = client.query('select pg_sleep(30)')
  await until(
    async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")).rowCount === 1,
  )
  const own = client as unknown as { processID: number; secretKey: number }
  const key = Buffer.alloc(4)
  key.writeInt32BE(own.secretKey | 0)
  let ended = false
  slow
    .catch(() => {})
    .then(() => {
      ended = true
    })
  for (const pair of [rig.identities.pair({ use: 'database', user: 'somebody-else' }), rig.client]) {
    assert.equal(ended, false)
    const tcp = connectTcp(rig.port, '127.0.0.1')
    await once(tcp, 'connect')
    tcp.write(sslRequest())
    await once(tcp, 'data')
    const socket = connectTls({ socket: tcp, ca: rig.identities.cert, ...pair, checkServerIdentity: () => undefined })
    socket.on('error', () => {})
    socket.write(cancelRequest(own.processID, key))
    await once(socket.resume(), 'close')
  }
  await assert.rejects(slow, { code: '57014' })
  await client.end()
})

/** Logs in by direct TLS with a minor version of the protocol; the frames up to ReadyForQuery. */
async function logInAs(minor: number, options: Record<string, string> = {}) {
  const socket = connectTls({
    port: rig.port,
    host: '127.0.0.1',
    ca: rig.identities.cert,
    ...rig.client,
    ALPNProtocols: ['postgresql'],
    servername: 'prod.localhost',
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  const packet = startupPacket({ user: 'reader', database: 'shop', ...options })
  packet.writeInt32BE((3 << 16) | minor, 4)
  const frames: Buffer[] = []
  let held = Buffer.alloc(0)
  const ready = new Promise<void>((done) => {
    socket.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk])
      while (held.length >= 5 && held.length > held.readInt32BE(1)) {
        const end = held.readInt32BE(1) + 1
        frames.push(held.subarray(0, end))
        held = held.subarray(end)
        if (frames.at(-1)![0] === 'Z'.charCodeAt(0)) done()
      }
    })
  })
  socket.write(packet)
  await ready
  return { socket, frames, of: (type: string) => frames.find((frame) => frame[0] === type.charCodeAt(0)) }
}

test('protocol 3.2 is spoken, with long keys for cancelling; newer ones and unknown options are negotiated down', async () => {
  rig.state.roles = [ANYTHING]
  const { socket, frames, of } = await logInAs(2)
  assert.equal(of('v'), undefined)
  const key = of('K')!
  assert.equal(key.length, 5 + 4 + 32)
  socket.write(queryMessage('select pg_sleep(30)'))
  await until(
    async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")).rowCount === 1,
  )
  for (const secret of [key.subarray(9, 13), Buffer.alloc(32), key.subarray(9)]) {
    const cancel = connectTcp(rig.port, '127.0.0.1')
    cancel.on('error', () => {})
    cancel.write(cancelRequest(key.readInt32BE(5), secret))
    await once(cancel.resume(), 'close')
  }
  await until(() => frames.some((frame) => frame[0] === 'E'.charCodeAt(0) && frame.includes('57014')))
  socket.destroy()
  const newer = await logInAs(9999, { '_pq_.compression': 'on' })
  const said = newer.of('v')!
  assert.deepEqual([said.readInt32BE(5), said.readInt32BE(9), said.toString('utf8', 13, said.length - 1)], [(3 << 16) | 2, 1, '_pq_.compression'])
  newer.socket.destroy()
  const old = await logInAs(0)
  assert.equal(old.of('K')!.length, 5 + 4 + 4)
  old.socket.destroy()
})

test('what others notify comes to an idle connection that listens, and to no other', async () => {
  rig.state.roles = [WRITER]
  const [listening, other] = [await rig.connect('writer'), await rig.connect('writer')]
  const heard: string[] = []
  listening.on('notification', ({ channel, payload }) => heard.push(`${channel}: ${payload}`))
  other.on('notification', () => heard.push('never'))
  await listening.query('listen news')
  await rig.admin.query("notify news, 'one'")
  await until(() => heard.length === 1)
  await listening.query('begin')
  await rig.admin.query("notify news, 'two'")
  await listening.query('commit')
  await until(() => heard.length === 2)
  assert.deepEqual(heard, ['news: one', 'news: two'])
  rig.state.roles = [READER]
  // It fills the server's queue for as long as the connection is idle (B21), so it is more than reading.
  await assert.rejects(other.query('listen news'), { code: '42501' })
  await listening.end()
  await other.end()
})

async function sendCancel(port: number, process: number, secret: number): Promise<void> {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(secret | 0)
  await new Promise((done) => {
    const socket = connectTcp(port, '127.0.0.1', () => socket.write(cancelRequest(process, bytes)))
    socket
      .on('close', done)
      .on('error', () => {})
      .resume()
  })
}
