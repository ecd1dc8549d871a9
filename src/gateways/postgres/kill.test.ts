import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer, type Server } from 'node:net'
import { after, before, beforeEach, test } from 'node:test'
import { type PostgresGateway, postgresGateway } from './gateway.ts'
import { bind, execute, flush, message, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, type Rig, startRig, until } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query, sslRequest } from './wire/write.ts'

/**
 * Client, gateway or server go away in the middle of each phase. Whatever happens: every statement that was begun has an outcome,
 * what is said of a commit is true, and nothing is left running in the database.
 */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING], users: ['killed'] })
  await rig.admin.query(
    'create role killed login; grant all on all tables in schema public to killed; alter role killed set synchronous_commit = off',
  )
})
after(() => rig.stop())
beforeEach(async () => {
  rig.records.length = 0
  await rig.admin.query('truncate touched')
})

interface Phase {
  /** Brings the connection there; resolves when the moment has come. */
  reach(raw: RawClient): Promise<unknown> | unknown
}

const INSERT = "insert into touched values ('x')"
const copyData = message('d', Buffer.from('y\n'))
const slow = 'select pg_sleep(20) /* slow */'
const running = (mark: string) => async () =>
  (await rig.admin.query("select 1 from pg_stat_activity where usename = 'killed' and state = 'active' and query like $1", [`%${mark}%`]))
    .rowCount === 1

const PHASES: Readonly<Record<string, Phase>> = {
  idle: { reach: () => {} },
  'a Parse on its way': { reach: (raw) => raw.send(parse('', INSERT), flush()) },
  'half a message': { reach: (raw) => raw.socket.write(query(INSERT).subarray(0, 12)) },
  'bound and not executed': {
    reach(raw) {
      raw.send(parse('', INSERT), bind('', ''), flush())
      return raw.until('2')
    },
  },
  'executed and not committed': {
    reach(raw) {
      raw.send(parse('', `${INSERT} returning what`), bind('', ''), execute(''), flush())
      return raw.until('C')
    },
  },
  'a statement that runs': {
    reach(raw) {
      raw.send(query(slow))
      return until(running('slow'))
    },
  },
  'a pipeline of many': {
    reach: (raw) => raw.send(...Array.from({ length: 30 }, () => [parse('', INSERT), bind('', ''), execute(''), sync()]).flat()),
  },
  'in the middle of rows': {
    reach(raw) {
      raw.send(query("select repeat('x', 10000) from generate_series(1, 100000)"))
      return raw.until('D')
    },
  },
  'COPY in': {
    reach(raw) {
      raw.send(query('copy touched from stdin'))
      return raw.until('G').then(() => raw.send(copyData))
    },
  },
  'COPY out': {
    reach(raw) {
      raw.send(query("copy (select repeat('x', 10000) from generate_series(1, 100000)) to stdout"))
      return raw.until('d')
    },
  },
  'inside a transaction': {
    reach(raw) {
      raw.send(query(`begin; ${INSERT}`))
      return raw.until('Z')
    },
  },
  'a COMMIT on its way': {
    async reach(raw) {
      raw.send(query(`begin; ${INSERT}`))
      await raw.until('Z')
      raw.send(query('commit'))
    },
  },
}

/** A gateway of its own, to be ended. */
async function another(): Promise<{ gateway: PostgresGateway; server: Server; port: number }> {
  const gateway = postgresGateway(rig.parts)
  const server = createServer((socket) => gateway.accept(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { gateway, server, port: (server.address() as AddressInfo).port }
}

const KILLERS = {
  async client(raw: RawClient) {
    raw.socket.destroy()
  },
  async server() {
    await rig.admin.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'killed'")
  },
  async gateway(_: RawClient, gateway: PostgresGateway) {
    await gateway.close()
  },
} as const

for (const [killer, kill] of Object.entries(KILLERS)) {
  for (const [phase, { reach }] of Object.entries(PHASES)) {
    test(`rule 3: the ${killer} goes away: ${phase}`, async () => {
      const { gateway, server, port } = await another()
      const raw = await rig.raw('killed', {}, {}, port)
      await reach(raw)
      await kill(raw, gateway)
      await until(() => rig.open.size === 0 || (killer === 'server' && phase === 'idle'))
      await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where usename = 'killed'")).rowCount === 0)
      raw.end()
      await gateway.close()
      server.close()
      assert.equal(rig.open.size, 0)
      for (const record of rig.records) assert.ok(record.outcome, `${record.action.summary} has no outcome`)
      const there = (await rig.admin.query('select count(*)::int as n from touched')).rows[0].n as number
      const { least, most } = promised()
      assert.ok(there >= least && there <= most, `${there} rows are there; the record says from ${least} to ${most}`)
    })
  }
}

/** How many rows the record says were inserted: those that are sure, and those that may be. */
function promised(): { least: number; most: number } {
  const statements = rig.records.filter((record) => record.kind === 'intent' && record.action.operation !== 'connect')
  const commit = statements.find((record) => record.bodies.statement === 'commit')
  const inBlock = statements.some((record) => record.action.operation === 'transaction')
  let [least, most] = [0, 0]
  for (const record of statements.filter((one) => /^(insert|copy touched)/.test(one.bodies.statement!))) {
    const status = inBlock ? (record.outcome!.status === 'failed' ? 'failed' : (commit?.outcome?.status ?? 'failed')) : record.outcome!.status
    if (record.outcome!.facts?.rolledBack) continue
    if (status === 'ok') least++
    if (status !== 'failed') most++
  }
  return { least, most }
}

test('rule 11: a client that goes away before it has said who it is, at every step, leaves nothing', async () => {
  const { gateway, server, port } = await another()
  for (const bytes of [Buffer.alloc(0), sslRequest().subarray(0, 3), sslRequest(), Buffer.concat([sslRequest(), Buffer.from([0x16, 3, 1])])]) {
    const socket = connectTcp(port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    if (bytes.length > 0) socket.write(bytes)
    socket.destroy()
  }
  await until(() => gateway.connections === 0)
  await gateway.close()
  server.close()
})

test('rule 3: a gateway that goes away while a connection is being made leaves none to the database', async () => {
  const { gateway, server, port } = await another()
  const { promise, resolve } = Promise.withResolvers<void>()
  rig.gate.wait = promise
  const coming = rig.raw('killed', {}, {}, port).catch(() => undefined)
  await until(() => gateway.connections === 1)
  const closed = gateway.close()
  resolve()
  rig.gate.wait = undefined
  await closed
  const raw = await coming
  raw?.end()
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where usename = 'killed'")).rowCount === 0)
  server.close()
  assert.equal(rig.open.size, 0)
})
