import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { sql } from 'kysely'
import pg from 'pg'
import { systemClock } from '../clock.ts'
import { startPostgres } from '../demo/postgres.ts'
import { ChaperoneError, type ReasonCode, toChaperoneError } from '../errors.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { pastDeadlocks } from './deadlock.ts'
import { startLease } from './lease.ts'
import { openStore } from './open.ts'

// What only a server over a network can do to us.

const dir = await mkdtemp(join(tmpdir(), 'chaperone-store-'))
const began = await startPostgres({ dir, settings: { synchronous_commit: 'off' } }).catch(toChaperoneError)
const skip = 'stop' in began ? false : `no PostgreSQL here: ${began.message} ${began.fix ?? ''}`
const running = () => {
  if (!('stop' in began)) throw began
  return began
}
after(async () => {
  if ('stop' in began) await began.stop()
  await rm(dir, { recursive: true, force: true })
})

const refused = (code: ReasonCode, message: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === code && message.test(error.message)

async function superuser(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: running().superuserUrl })
  await client.connect()
  await client.query(statement)
  await client.end()
}

test('two changes that wait for each other are both made: the one that PostgreSQL undid is made once more', { skip }, async (t) => {
  await superuser('create database crossing')
  const url = running().superuserUrl.replace(/\/[^/?]*(\?|$)/, '/crossing$1')
  const stores = await Promise.all([1, 2].map(() => openStore({ url }, { clock: systemClock })))
  t.after(() => Promise.all(stores.map((store) => store.close())))
  const rows = ['left', 'right']
  await stores[0]!.write((trx) =>
    trx
      .insertInto('meta')
      .values(rows.map((key) => ({ key, value: '' })))
      .execute(),
  )
  const cross = async (again: typeof pastDeadlocks) => {
    const arrived = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const change = (which: number) => () =>
      stores[which]!.write(async (trx) => {
        const add = (key: string) =>
          trx
            .updateTable('meta')
            .set((row) => ({ value: sql<string>`${row.ref('value')} || ${String(which)}` }))
            .where('key', '=', key)
            .execute()
        await add(rows[which]!)
        // Each holds its row before one of them asks for the other's.
        arrived[which]!.resolve()
        await arrived[1 - which]!.promise
        await add(rows[1 - which]!)
      })
    return Promise.allSettled([again(change(0)), again(change(1))])
  }
  const once = await cross((change) => change())
  assert.deepEqual(once.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'so they do wait for each other')
  const both = await cross(pastDeadlocks)
  assert.deepEqual(
    both.map(({ status }) => status),
    ['fulfilled', 'fulfilled'],
  )
  const { value } = await stores[0]!.db.selectFrom('meta').select('value').where('key', '=', 'left').executeTakeFirstOrThrow()
  assert.equal(value.length, 3, 'the undone ones left nothing')
})

test('rule 3: a commit is durable on return, also where the database is set up to forget the last ones in a crash', { skip }, async (t) => {
  const store = await openStore({ url: running().superuserUrl }, { clock: systemClock })
  t.after(() => store.close())
  assert.deepEqual((await sql`show synchronous_commit`.execute(store.db)).rows, [{ synchronous_commit: 'on' }])
})

test('a connection that breaks in the middle of a transaction is an error of that transaction, and of nothing else', { skip }, async (t) => {
  const store = await openStore({ url: running().superuserUrl }, { clock: systemClock })
  t.after(() => store.close())
  const broken = store.write(async (trx) => {
    await trx.insertInto('meta').values({ key: 'half', value: '1' }).execute()
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(trx)
    await superuser(`select pg_terminate_backend(${rows[0]!.pid}, 5000)`)
    await trx.insertInto('meta').values({ key: 'other half', value: '1' }).execute()
  })
  await assert.rejects(broken, refused('store_unavailable', /./))
  assert.deepEqual(await store.db.selectFrom('meta').selectAll().where('key', 'like', '%half').execute(), [])
})

test('two nodes that make the first key of a purpose at once get the same key', { skip }, async (t) => {
  const stores = await Promise.all([1, 2].map(() => openStore({ url: running().superuserUrl }, { clock: systemClock })))
  t.after(() => Promise.all(stores.map((store) => store.close())))
  const open = async (store: (typeof stores)[number]) =>
    openKeyring(store, await loadRootKey({ store, createAt: join(dir, 'root.key') }), systemClock)
  const rings = await Promise.all(stores.map(open))
  const ids = await Promise.all([...rings, ...rings].map(async (ring) => (await ring.signer('authority:identity')).id))
  assert.equal(new Set(ids).size, 1)
})

test('a wrong login and a missing database say what to do, and never the password', { skip }, async () => {
  const { superuserUrl, superuserPassword } = running()
  const wrong = superuserUrl.replace(superuserPassword, 'not-the-password')
  const error = await openStore({ url: wrong }, { clock: systemClock }).catch((thrown: unknown) => thrown)
  assert.ok(refused('store_unavailable', /does not accept the login/)(error))
  assert.ok(error instanceof ChaperoneError && !`${error.message} ${error.detail} ${error.fix}`.includes('not-the-password'))
  await assert.rejects(openStore({ url: `${superuserUrl}x` }, { clock: systemClock }), refused('store_unavailable', /does not exist/))
})

test('rule 1: while the server is away everything is refused and the lease lapses; when it is back, all goes on', { skip }, async (t) => {
  const server = running()
  const store = await openStore({ url: server.superuserUrl }, { clock: systemClock })
  t.after(() => store.close())
  const lease = await startLease(store, { nodeId: 'nod_one', address: 'a:1', clock: systemClock, lifeMs: 1_500, everyMs: 60 })
  t.after(() => lease.stop())
  await server.kill()
  await assert.rejects(store.epoch(), refused('store_unavailable', /./))
  await assert.rejects(
    store.write(async () => {}),
    refused('store_unavailable', /./),
  )
  while (lease.valid()) await new Promise((again) => setImmediate(again))
  await assert.rejects(lease.ensure(), refused('lease_lapsed', /./))

  const again = await startPostgres({ dir, port: server.port })
  t.after(() => again.stop({ keep: true }))
  // On a busy machine the first renewal may take longer than this short lease lives.
  for (let tries = 1; ; tries++) {
    const lapsed = await lease.ensure().then(
      () => undefined,
      (error: unknown) => error,
    )
    if (lapsed === undefined) break
    assert.ok(tries < 50, String(lapsed))
  }
  assert.ok((await store.reduce(async () => {})).epoch > 1)
})
