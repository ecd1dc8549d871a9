import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { close, message, sync } from './raw.fixture.ts'
import { ANYTHING, type Rig, startRig, until } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query, startupPacket } from './wire/write.ts'

/** What one client asks of the gateway's memory, of its record and of the database, without end. */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING], limits: { names: 50 } })
})
after(() => rig.stop())
beforeEach(() => {
  rig.events.length = 0
})

const backends = async () =>
  (await rig.admin.query("select count(*)::int as n from pg_stat_activity where usename = 'reader' and backend_type = 'client backend'")).rows[0].n

/** A client inside this process, as the tools of a database are one: nothing between the two ends holds bytes. */
function inside() {
  const { signal } = new AbortController()
  const connection = { id: 'con_inside', protocol: 'postgres', signal, closed() {}, assertOpen() {} }
  const wire = rig.gateway.enter({ session: rig.sessionOf('boris-ai'), connection }, 'mcp')
  wire.write(startupPacket({ user: 'reader', database: 'prod/shop' }))
  return wire
}

const functionCalls = (count: number) => Buffer.concat(Array.from({ length: count }, () => message('F', Buffer.alloc(8))))
const refusals = () => rig.events.filter(({ type }) => type === 'message.refused').length
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms))

test('a client inside this process that goes while the way to the database is made leaves nothing open', async () => {
  for (const ms of [0, 5, 20, 40, 60]) {
    const wire = inside()
    await wait(ms)
    wire.destroy()
  }
  await wait(300)
  await until(async () => (await backends()) === 0)
})

test('rule 11: who asks on and does not read the refusals is not listened to', async () => {
  const wire = inside()
  await until(() => wire.readableLength > 0)
  for (let i = 0; i < 200; i++) wire.write(functionCalls(500))
  let before = -1
  await until(async () => {
    const now = refusals()
    const still = now === before
    before = now
    await wait(100)
    return still
  })
  assert.ok(before < 50_000, `${before} of 100000 were answered to nobody`)
  wire.destroy()
  await until(async () => (await backends()) === 0)
})

test('rule 11: refusals come no faster than the record takes them', async () => {
  const raw = await rig.raw('reader')
  const append = rig.parts.audit.append
  const held = Promise.withResolvers<void>()
  let began = 0
  Object.assign(rig.parts.audit, {
    async append(draft: Parameters<typeof append>[0]) {
      began++
      await held.promise
      return await append(draft)
    },
  })
  try {
    raw.send(functionCalls(2_000))
    await until(() => began > 0)
    await wait(200)
    assert.ok(began <= 300, `${began} wait for the record`)
  } finally {
    held.resolve()
    Object.assign(rig.parts.audit, { append })
  }
  assert.equal((await raw.answers(2_000)).filter((said) => said.startsWith('E')).length, 2_000)
  raw.end()
})

test('rule 11: names that SQL prepares, and names that are closed without a Sync, are counted too', async () => {
  const raw = await rig.raw('reader')
  for (let i = 0; i < 60; i++) raw.send(query(`prepare s${i} as select 1`))
  const prepared = await raw.answers(60)
  assert.equal(prepared.filter((said) => said === 'C:PREPARE').length, 50)
  assert.equal(prepared.filter((said) => said.startsWith('E')).length, 10)
  raw.send(...Array.from({ length: 60 }, (_, i) => close('S', `t${i}`)), sync())
  assert.ok((await raw.answers()).some((said) => said.startsWith('E')))
  // A full house can be emptied.
  raw.send(...Array.from({ length: 40 }, (_, i) => close('S', `s${i}`)), sync())
  await raw.answers()
  raw.send(parse('new', 'select 1'), sync())
  assert.ok(!(await raw.answers()).some((said) => said.startsWith('E')))
  raw.end()
})

test('a storm of cancels goes to the database one at a time, and not at all while nothing runs', async () => {
  const client = await rig.connect('reader')
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
  const cancels = async (count: number) => {
    const { connect } = await import('node:net')
    const bytes = Buffer.alloc(16)
    bytes.writeInt32BE(16, 0)
    bytes.writeInt32BE(80_877_102, 4)
    bytes.writeInt32BE(processID, 8)
    bytes.writeInt32BE(secretKey, 12)
    await Promise.all(
      Array.from({ length: count }, async () => {
        const socket = connect(rig.port, '127.0.0.1')
        socket.on('error', () => {})
        socket.end(bytes)
        socket.resume()
        await new Promise((done) => socket.once('close', done))
      }),
    )
  }
  await cancels(30)
  assert.equal((await client.query('select 1 as n')).rows[0].n, 1)
  const slept = client.query('select pg_sleep(30)').then(
    () => 'slept',
    (error: { code: string }) => error.code,
  )
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where wait_event = 'PgSleep'")).rowCount === 1)
  await cancels(30)
  assert.equal(await slept, '57014')
  assert.equal((await client.query('select 2 as n')).rows[0].n, 2)
  await client.end()
})
