import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { sql } from 'kysely'
import { systemClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { openStore } from './open.ts'
import { openSqlite } from './sqlite-dialect.ts'
import type { Store } from './store.ts'

async function place(t: TestContext): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-sqlite-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  return dataDir
}

async function open(t: TestContext): Promise<Store> {
  const store = await openStore({ dataDir: await place(t) }, { clock: systemClock })
  t.after(() => store.close())
  return store
}

const refused = (code: ReasonCode, message: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === code && message.test(error.message)
const put = (db: Store['db'], key: string, value: string) => db.insertInto('meta').values({ key, value }).execute()
const count = async (store: Store) => (await store.db.selectFrom('meta').select('key').where('key', 'like', 'n%').execute()).length

test('rule 3: what was acknowledged is there after kill -9 in the middle of writing', async (t) => {
  const dataDir = await place(t)
  const script = `
    const { openStore } = await import(${JSON.stringify(new URL('./open.ts', import.meta.url).href)})
    const { systemClock } = await import(${JSON.stringify(new URL('../clock.ts', import.meta.url).href)})
    const store = await openStore({ dataDir: process.argv[1] }, { clock: systemClock })
    for (let n = 1; ; n++) {
      await store.write((trx) => trx.insertInto('meta').values({ key: 'n' + n, value: 'x' }).execute())
      console.log(n)
    }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  let acknowledged = 0
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged === 100) child.kill('SIGKILL')
  }
  const store = await openStore({ dataDir }, { clock: systemClock })
  t.after(() => store.close())
  const stored = await count(store)
  assert.ok(acknowledged >= 100 && (stored === acknowledged || stored === acknowledged + 1), `${acknowledged} acknowledged, ${stored} stored`)
})

test('rule 1: a full disk refuses the write with a clear error, keeps what was there, and passes when there is room', async (t) => {
  const store = await open(t)
  await put(store.db, 'n1', 'x')
  await sql`pragma max_page_count = 1`.execute(store.db) // no smaller than the file is: not a page more
  const big = () => put(store.db, 'n2', randomBytes(100_000).toString('base64'))
  await assert.rejects(big(), refused('store_unavailable', /disk of the store is full/))
  await assert.rejects(
    store.write(async (trx) => put(trx, 'n3', randomBytes(100_000).toString('base64'))),
    refused('store_unavailable', /disk of the store is full/),
  )
  assert.equal(await count(store), 1)
  await sql`pragma max_page_count = 1000000`.execute(store.db)
  await big()
  assert.equal(await count(store), 2)
})

test('a writer of another thread is waited for, without stopping this process', async (t) => {
  const store = await open(t)
  const other = openSqlite(store.location)
  t.after(() => other.close())
  other.exec('begin immediate')
  let ticks = 0
  const written = store.write((trx) => put(trx, 'n1', 'x')).then(() => 'written')
  const ticking = setInterval(() => {
    if (++ticks === 5) other.exec('commit')
  }, 2)
  assert.equal(await written, 'written')
  clearInterval(ticking)
  assert.ok(ticks >= 5)
})

test('writers of this process take turns, and reads do not wait for them', async (t) => {
  const store = await open(t)
  let go = () => {}
  const held = new Promise<void>((resolve) => {
    go = resolve
  })
  const order: string[] = []
  const first = store.write(async (trx) => {
    await put(trx, 'n1', 'x')
    await held
    order.push('first')
  })
  const second = store.write(async (trx) => {
    order.push('second')
    await put(trx, 'n2', 'x')
  })
  const third = put(store.db, 'n3', 'x').then(() => order.push('third'))
  assert.equal(await count(store), 0)
  go()
  await Promise.all([first, second, third])
  assert.deepEqual(order, ['first', 'second', 'third'])
})

test('the file is readable by its owner alone, durable on commit, and strict about references', async (t) => {
  const dataDir = await place(t)
  const store = await openStore({ dataDir }, { clock: systemClock })
  t.after(() => store.close())
  for (const name of ['chaperone.db', 'chaperone.db-wal', 'chaperone.db-shm']) {
    assert.equal((await stat(join(dataDir, name))).mode & 0o777, 0o600, name)
  }
  const pragma = async (name: string) => Object.values((await sql<object>`pragma ${sql.raw(name)}`.execute(store.db)).rows[0] ?? {})[0]
  assert.deepEqual([await pragma('journal_mode'), await pragma('synchronous'), await pragma('foreign_keys')], ['wal', 2, 1])
})

test('a file that is no database is refused with a clear error', async (t) => {
  const dataDir = await place(t)
  await writeFile(join(dataDir, 'chaperone.db'), 'x'.repeat(10_000))
  await assert.rejects(openStore({ dataDir }, { clock: systemClock }), refused('store_unavailable', /damaged, or not one/))
  await assert.rejects(openStore({ dataDir: join(dataDir, 'missing') }, { clock: systemClock }), refused('store_unavailable', /store/))
  await assert.rejects(openStore({ url: 'mysql://x' }, { clock: systemClock }), refused('usage', /not one of PostgreSQL/))
})
