import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import type { LockRow } from '../../src/api/contract.ts'
import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import { openApi } from '../../src/client/api.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import type { LockLoadCuts, LockLoadOrder, LockLoadSaid } from '../lock-load.ts'
import type { NodeEnds, NodeOrder, NodeSaid } from '../lock-node.ts'
import { ask, type LockResult, type LockRowResult, start, stop } from '../measure.ts'
import { micros } from '../micros.ts'
import type { Plan } from './mcp.ts'

/** So many clients: calls and streams over MCP, each on a socket of its own, and statements that follow each other on connections. */
type Load = Pick<LockLoadOrder, (typeof KINDS)[number]>
const THOUSAND: Load = { calls: 400, streams: 300, statements: 300 }
/** Of one protocol at a time: here two cores hold the clients too, and a thousand of them measure themselves as much as the node. */
const HUNDREDS: readonly Load[] = [
  { calls: 100, streams: 0, statements: 0 },
  { calls: 0, streams: 100, statements: 0 },
  { calls: 0, streams: 0, statements: 100 },
]
const SESSIONS = 8
/** After the acknowledgement: whatever still reaches a resource has slipped. */
const WATCH_MS = 1_500
const READY_MS = 120_000
/** After each, a thousand clients come back, which takes a while on a small machine. */
const MOST_PASSES = 5
const KINDS = ['calls', 'streams', 'statements'] as const

/** W6: one lock on the agents of a person with 1,000 calls under way, over and over. */
export async function w6(plan: Plan): Promise<LockResult> {
  const rows = [...(await race(plan, 1, [...HUNDREDS, THOUSAND])), ...(await race(plan, 2, [THOUSAND]))]
  return {
    workload: 'w6',
    slipped: rows.reduce((sum, row) => sum + row.slipped, 0),
    cut_ms: Math.max(...rows.filter(({ nodes }) => nodes === 1).map(({ cut_ms_max }) => cut_ms_max)),
    cut_ms_nodes: Math.max(...rows.filter(({ nodes }) => nodes === 2).map(({ cut_ms_max }) => cut_ms_max)),
    rows,
    notes: [
      'slipped: what the resource itself received after the lock was acknowledged (the MCP server by its own clock, PostgreSQL by its log of statements)',
      'cut_ms: from sending the lock until the client saw its call, stream or connection end; one process holds all clients',
      'node_ms: from sending the lock until the node had written the goodbye; clients_cpu_ms: what the process of the clients used from the lock until its last client was cut',
    ],
  }
}

async function race(plan: Plan, nodes: 1 | 2, loads: readonly Load[]): Promise<LockRowResult[]> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-bench-w6-'))
  const undo: (() => Promise<unknown>)[] = [() => rm(dir, { recursive: true, force: true })]
  try {
    const port = 20_000 + Math.floor(Math.random() * 20_000)
    const store = nodes === 1 ? undefined : await startPostgres({ dir: join(dir, 'store') })
    if (store) undo.push(() => store.stop())
    const upstream = await start<{ port: number }>('lock-upstream.ts')
    undo.push(() => stop(upstream.child))
    const first = await start<NodeSaid>('lock-node.ts', {
      documents: documents(upstream.said.port, port),
      sessions: SESSIONS,
      ...at(store?.superuserUrl),
    })
    undo.push(() => stop(first.child))
    const { said } = first
    const second =
      nodes === 1 ? undefined : await start<NodeSaid>('lock-node.ts', { rootKey: said.rootKey, ...at(store?.superuserUrl) } satisfies NodeOrder)
    if (second) undo.push(() => stop(second.child))

    let log = ''
    const database = await startPostgres({
      dir: join(dir, 'database'),
      port,
      tls: said.database,
      hba: 'hostssl bench bench 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 scram-sha-256\n',
      settings: { max_connections: '400', shared_buffers: '32MB', log_statement: 'all', log_line_prefix: '%n ', log_min_messages: 'log' },
      onLog(text) {
        log += text
      },
    })
    undo.push(() => database.stop())
    await prepare(database.superuserUrl)

    const places = [said, ...(second ? [second.said] : [])].map(({ data, postgres }) => ({ data, postgres }))
    const api = openApi({
      address: `localhost:${said.data.split(':').at(-1)}`,
      authorities: said.ca,
      identity: { key: said.operator.key, certificate: said.operator.cert },
    })
    undo.push(async () => api.close())

    const rows: LockRowResult[] = []
    for (const size of loads) {
      const load = await start('lock-load.ts')
      undo.push(() => stop(load.child))
      await ask(load.child, { ca: said.ca, nodes: places, sessions: said.sessions, ...size } satisfies LockLoadOrder)
      const passes: Pass[] = []
      for (let i = 0; i < Math.min(plan.passes, MOST_PASSES); i++) {
        await allRunning(load.child, size)
        await ask<LockLoadCuts>(load.child, { say: 'cuts' })
        await ask(upstream.child, { after: 0 })
        log = ''
        const asked = micros()
        const lock = await api.call<LockRow>('POST', '/v1/locks', { kind: 'owner', target: 'bench-owner', reason: 'w6' })
        const acknowledged = micros()
        const acknowledgedAt = Date.now()
        await wait(WATCH_MS)
        const cuts = await ask<LockLoadCuts>(load.child, { say: 'cuts' })
        const ends = await Promise.all([first, ...(second ? [second] : [])].map(({ child }) => ask<NodeEnds>(child, { endsSince: asked })))
        const received = await ask<{ calls: number; late: number }>(upstream.child, { after: acknowledged })
        const statements = statementsAfter(log, acknowledgedAt)
        await api.call('DELETE', `/v1/locks/${lock.id}`)
        passes.push({ asked, ackMs: (acknowledged - asked) / 1000, cuts, ends, slipped: { mcp: received.late, postgres: statements } })
      }
      load.child.send({ end: true })
      await stop(load.child)
      rows.push(...KINDS.filter((kind) => size[kind] > 0).map((kind) => rowOf(kind, nodes, size[kind], passes)))
    }
    return rows
  } finally {
    for (const step of undo.reverse()) await step().catch((error: unknown) => console.error(error))
  }
}

interface Pass {
  readonly asked: number
  readonly ackMs: number
  readonly cuts: LockLoadCuts
  /** of each node */
  readonly ends: readonly NodeEnds[]
  readonly slipped: { readonly mcp: number; readonly postgres: number }
}

function rowOf(kind: (typeof KINDS)[number], nodes: number, running: number, passes: readonly Pass[]): LockRowResult {
  const first = passes.map(({ asked, cuts }) => cuts[kind].map((at) => (at - asked) / 1000))
  const all = first.flat().sort((a, b) => a - b)
  const acks = passes.map(({ ackMs }) => ackMs).sort((a, b) => a - b)
  // The node cannot tell calls and streams apart: both are answers.
  const written = passes.flatMap(({ asked, ends }) =>
    ends.flatMap((of) => (kind === 'statements' ? of.statements : of.calls).map((at) => (at - asked) / 1000)),
  )
  written.sort((a, b) => a - b)
  const cpu = passes.map(({ cuts }) => cuts.cpuMs).sort((a, b) => a - b)
  const round = (value: number | undefined) => Number((value ?? 0).toFixed(1))
  return {
    workload: 'w6',
    name: { calls: 'mcp http', streams: 'mcp streams', statements: 'postgres' }[kind],
    nodes,
    running,
    slipped: passes.reduce((sum, { slipped }) => sum + (kind === 'statements' ? slipped.postgres : kind === 'calls' ? slipped.mcp : 0), 0),
    cut_ms: round(all[all.length >> 1]),
    cut_ms_max: round(all.at(-1)),
    node_ms: round(written[written.length >> 1]),
    node_ms_max: round(written.at(-1)),
    clients_cpu_ms: round(cpu[cpu.length >> 1]),
    ack_ms: round(acks[acks.length >> 1]),
    cut: first.map((ends) => ends.length),
  }
}

const at = (store: string | undefined) => (store === undefined ? {} : { store })

function documents(mcpPort: number, postgresPort: number) {
  const tools = { wait: { effects: ['read'] }, stream: { effects: ['read'] } }
  return [
    { kind: 'mcp', name: 'bench', spec: mcpServerSpec.parse({ url: `http://127.0.0.1:${mcpPort}/`, trusted: true, tools }) },
    {
      kind: 'postgres',
      name: 'bench',
      spec: {
        address: `localhost:${postgresPort}`,
        databases: ['bench'],
        tls: {},
        credential_ttl: '5m',
        functions: { read: ['public.nap'] },
        limits: { connections: 800 },
      },
    },
    {
      kind: 'role',
      name: 'bench',
      spec: {
        allow: [
          { mcp: 'bench', tools: ['wait', 'stream'] },
          { postgres: 'bench', databases: ['bench'], as: 'bench', can: 'read' },
        ],
      },
    },
  ]
}

async function prepare(superuserUrl: string): Promise<void> {
  const admin = new pg.Client({ connectionString: superuserUrl })
  await admin.connect()
  await admin.query('CREATE DATABASE bench')
  await admin.query('CREATE ROLE bench LOGIN')
  await admin.end()
  const client = new pg.Client({ connectionString: superuserUrl.replace(/\/postgres$/, '/bench') })
  await client.connect()
  await client.query("CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN 1; END'")
  await client.query('ANALYZE')
  await client.end()
}

async function allRunning(load: Parameters<typeof ask>[0], size: Load): Promise<void> {
  const until = Date.now() + READY_MS
  for (;;) {
    const { running, failures } = await ask<LockLoadSaid>(load, { say: 'running' })
    if (KINDS.every((kind) => running[kind] >= size[kind])) return
    if (Date.now() > until) throw new Error(`w6: only ${JSON.stringify(running)} are running: ${failures.slice(-3).join('; ')}`)
    await wait(200)
  }
}

/** What an agent had sent, not what Chaperone asks the server about itself; the log has milliseconds, so those of the same one count as before. */
const statementsAfter = (log: string, at: number): number =>
  [...log.matchAll(/^(\d+)\.(\d{3}) LOG: {2}(?:statement|execute [^:]*): SELECT nap\(\)/gm)].filter(
    ([, seconds, ms]) => Number(seconds) * 1000 + Number(ms) > at,
  ).length
