import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startPostgres } from '../../src/demo/postgres.ts'
import type { ChaperoneSaid, MeasuresSaid } from '../chaperone.ts'
import { ask, type Memory, type Result, rowOf, type Sample, start, stop, toFloor, usage } from '../measure.ts'
import { startPgbouncer } from '../pgbouncer.ts'
import type { Plan } from './mcp.ts'

const MODES = ['simple', 'extended', 'prepared'] as const
const CLIENTS = 32
/** For memory: as many connections at once. */
const MANY = 500

/** W8: `pgbench -S` with 32 clients over TLS with client certificates; the floor is pgbouncer in session mode on the same cores. */
export async function w8(plan: Plan): Promise<Result> {
  const missing = spawnSync('pgbench', ['--version']).status !== 0 ? 'pgbench (Debian package postgresql-contrib or postgresql-15)' : undefined
  if (missing) return { workload: 'w8', rows: [], to_floor: null, floor: 'pgbouncer', notes: [`skipped: ${missing} is not installed`] }

  const dir = await mkdtemp(join(tmpdir(), 'chaperone-bench-pg-'))
  const port = 20_000 + Math.floor(Math.random() * 20_000)
  const chaperone = await start<ChaperoneSaid>('chaperone.ts', {
    documents: [
      {
        kind: 'postgres',
        name: 'bench',
        spec: { address: `localhost:${port}`, databases: ['bench'], tls: {}, credential_ttl: '5m', limits: { connections: 2 * MANY + 200 } },
      },
      { kind: 'role', name: 'bench', spec: { allow: [{ postgres: 'bench', databases: ['bench'], as: 'bench', can: 'read' }] } },
    ],
    roles: ['bench'],
    databaseServer: 'bench',
  })
  const database = chaperone.said.database!
  const postgres = await startPostgres({
    dir: join(dir, 'pg'),
    port,
    tls: database,
    hba: 'hostssl bench bench 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 scram-sha-256\nhost bench floor 127.0.0.1/32 trust\n',
    settings: { max_connections: String(MANY + 100), shared_buffers: '64MB' },
  })
  const notes: string[] = []
  const bouncer = await startPgbouncer({
    dir,
    upstreamPort: port,
    tls: chaperone.said.server,
    clientCa: chaperone.said.identityCa,
    user: 'floor',
  }).catch((error: Error) => {
    notes.push(`pgbouncer was not measured: ${error.message}`)
    return undefined
  })
  try {
    await prepare(postgres.superuserUrl)
    for (const [name, pem, mode] of [
      ['agent.crt', chaperone.said.agent.cert, 0o644],
      ['agent.key', chaperone.said.agent.key, 0o600],
      ['again.crt', chaperone.said.again.cert, 0o644],
      ['again.key', chaperone.said.again.key, 0o600],
      ['ca.crt', chaperone.said.ca, 0o644],
    ] as const)
      await writeFile(join(dir, name), pem, { mode })
    const as = (who: string) =>
      `sslmode=verify-full sslrootcert=${join(dir, 'ca.crt')} sslcert=${join(dir, `${who}.crt`)} sslkey=${join(dir, `${who}.key`)}`
    const tls = as('agent')
    const address = `host=localhost port=${chaperone.said.postgres.split(':').at(-1)} dbname=bench/bench user=bench`
    const contenders = [
      {
        name: 'chaperone',
        pid: chaperone.child.pid!,
        dsn: `${address} ${tls}`,
      },
      ...(bouncer ? [{ name: 'floor', pid: bouncer.pid, dsn: `host=localhost port=${bouncer.port} dbname=bench user=floor ${tls}` }] : []),
      { name: 'direct', pid: chaperone.child.pid!, dsn: `host=127.0.0.1 port=${port} dbname=bench user=floor sslmode=disable` },
    ]
    const samples = new Map<string, Sample[]>()
    const texts = new Map<string, Texts>()
    for (let pass = 0; pass < plan.passes; pass++) {
      for (const mode of MODES) {
        for (let i = 0; i < contenders.length; i++) {
          const contender = contenders[(i + pass) % contenders.length]!
          const before = usage(contender.pid)
          const textsBefore = await ask<MeasuresSaid>(chaperone.child, { measures: true })
          const result = await pgbench(contender.dsn, mode, Math.max(2, Math.round(plan.ms / 1000)), dir)
          const after = usage(contender.pid)
          if (result.error) notes.push(`${contender.name} ${mode}: ${result.error}`)
          if (contender.name === 'chaperone')
            texts.set(mode, sum(texts.get(mode), textsBefore, await ask<MeasuresSaid>(chaperone.child, { measures: true })))
          const key = `${contender.name} ${mode}`
          samples.set(key, [
            ...(samples.get(key) ?? []),
            { ...result, cpuMs: result.count > 0 ? ((after.cpuMs - before.cpuMs) / result.count) * 1000 : 0, rssMb: after.rssMb },
          ])
        }
      }
    }
    const rows = [...samples].map(([key, of]) => rowOf(key, CLIENTS, of))
    return {
      workload: 'w8',
      rows,
      to_floor: toFloor(rows),
      floor: 'pgbouncer 1.x, session mode, TLS with client certificates, the same cores; cpu and rss of `direct` rows are not its own',
      notes: [...new Set(notes)],
      memory: await memory(chaperone.child, [`${address} ${tls}`, `${address} ${as('again')}`], dir),
      known_texts: Object.fromEntries(
        [...texts].map(([mode, { known, parsed }]) => [mode, known + parsed === 0 ? 0 : Math.round((known / (known + parsed)) * 1000) / 10]),
      ),
    }
  } finally {
    await bouncer?.stop()
    await stop(chaperone.child)
    await postgres.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

async function prepare(superuserUrl: string): Promise<void> {
  const admin = new pg.Client({ connectionString: superuserUrl })
  await admin.connect()
  await admin.query('CREATE DATABASE bench')
  await admin.query('CREATE ROLE bench LOGIN')
  await admin.query('CREATE ROLE floor LOGIN')
  await admin.end()
  const client = new pg.Client({ connectionString: superuserUrl.replace(/\/postgres$/, '/bench') })
  await client.connect()
  // What `pgbench -i` makes, without needing pgbench to sign in as the superuser.
  await client.query('CREATE TABLE pgbench_branches(bid int PRIMARY KEY, bbalance int, filler char(88))')
  await client.query('CREATE TABLE pgbench_accounts(aid int PRIMARY KEY, bid int, abalance int, filler char(84))')
  await client.query("INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, 100000) i")
  await client.query('INSERT INTO pgbench_branches VALUES (1, 0, NULL)')
  await client.query('GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench, floor')
  await client.query('ANALYZE')
  await client.end()
}

type Texts = Pick<MeasuresSaid, 'known' | 'parsed'>

const sum = (sofar: Texts | undefined, before: Texts, after: Texts): Texts => ({
  known: (sofar?.known ?? 0) + after.known - before.known,
  parsed: (sofar?.parsed ?? 0) + after.parsed - before.parsed,
})

/** Many connections at once, of two sessions: without work (pgbench waits in its script), then all at work. */
async function memory(chaperone: ChildProcess, dsns: readonly string[], dir: string): Promise<Memory> {
  const pid = chaperone.pid!
  const share = String(MANY / dsns.length)
  const script = join(dir, 'idle.sql')
  await writeFile(script, 'SELECT 1;\n\\sleep 300 s\n')
  const crowd = async (...args: string[]): Promise<number> => {
    const children = dsns.map((dsn) => spawn('pgbench', ['-n', ...args, '-c', share, '-j', '1', '-T', '300', dsn], { cwd: dir, stdio: 'ignore' }))
    const gone = children.map((child) => new Promise((done) => child.once('close', done)))
    const seen = await settled(chaperone)
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(gone)
    return seen
  }
  const before = usage(pid).rssMb
  const idle = await crowd('-f', script)
  const active = await crowd('-S', '-M', 'prepared')
  const each = (value: number) => Math.round(((value - before) * 1024) / MANY)
  const [before_mb, idle_mb, active_mb] = [before, idle, active].map((value) => Math.round(value * 10) / 10) as [number, number, number]
  return { connections: MANY, before_mb, idle_mb, active_mb, idle_kb_each: each(idle), active_kb_each: each(active) }
}

/** Resident MB once all are connected and it does not grow any more, or after two minutes. */
async function settled(chaperone: ChildProcess): Promise<number> {
  let most = 0
  for (let quiet = 0, looks = 0; quiet < 5 && looks < 120; looks++) {
    await new Promise((done) => setTimeout(done, 1_000))
    const { connections } = await ask<MeasuresSaid>(chaperone, { measures: true })
    const now = usage(chaperone.pid!).rssMb
    quiet = connections >= MANY && now < most + 2 ? quiet + 1 : 0
    most = Math.max(most, now)
  }
  return most
}

function pgbench(
  dsn: string,
  mode: string,
  seconds: number,
  dir: string,
): Promise<{ rps: number; p50: number; p99: number; count: number; error?: string }> {
  return new Promise((done) => {
    const child = spawn(
      'pgbench',
      ['-n', '-S', '-s', '1', '-M', mode, '-c', String(CLIENTS), '-j', '1', '-T', String(seconds), '-l', '--log-prefix', join(dir, 'latency'), dsn],
      { cwd: dir },
    )
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    child.stderr.on('data', (chunk) => {
      text += chunk
    })
    child.once('close', async (code) => {
      const rps = Number(/tps = ([\d.]+)/.exec(text)?.[1] ?? 0)
      const times = await latencies(dir)
      const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
      const error = code === 0 ? undefined : text.split('\n').find((line) => /error|fatal/i.test(line))
      done({ rps, p50: at(0.5), p99: at(0.99), count: Math.round(rps * seconds), ...(error === undefined ? {} : { error }) })
    })
  })
}

/** pgbench's own log: one line a transaction, microseconds in the third field. */
async function latencies(dir: string): Promise<Float64Array> {
  const { readdir, readFile, unlink } = await import('node:fs/promises')
  const times: number[] = []
  for (const file of (await readdir(dir)).filter((name) => name.startsWith('latency'))) {
    for (const line of (await readFile(join(dir, file), 'utf8')).split('\n')) {
      const field = line.split(' ')[2]
      if (field !== undefined) times.push(Number(field) / 1000)
    }
    await unlink(join(dir, file))
  }
  return Float64Array.from(times).sort()
}
