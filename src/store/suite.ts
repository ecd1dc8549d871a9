import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { sql } from 'kysely'
import { manualClock, systemClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { newId } from '../ids.ts'
import { startLease } from './lease.ts'
import { everyRowHasSeen, joinRow, renewRow } from './lease-rows.ts'
import { migrate } from './migrate.ts'
import { openStore, type StoreLocation } from './open.ts'
import type { Store } from './store.ts'
import { isUniqueViolation } from './store-errors.ts'

/** What both stores must do alike. `place` gives a new, empty place for a store, and clears it away after the test. */
export function storeSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  const open = async (t: TestContext, at?: StoreLocation, clock = systemClock): Promise<Store> => {
    const store = await openStore(at ?? (await place(t)), { clock })
    t.after(() => store.close())
    return store
  }

  describe(name, { skip: options.skip ?? false }, () => {
    test('values come back as they went in: numbers, bytes, text, nothing', async (t) => {
      const store = await open(t)
      const row = {
        node_id: 'nod_1',
        node_seq: 1,
        id: 'rec_1',
        at: Number.MAX_SAFE_INTEGER,
        type: 'ünïcode \u{1F512}',
        identity_id: null,
        session_id: null,
        resource_id: null,
        verdict: null,
        permit: null,
        leaf: new Uint8Array([0, 1, 255]),
        leaf_hash: new Uint8Array(32),
        position: null,
      }
      await store.db.insertInto('audit_leaves').values(row).execute()
      assert.deepEqual(await store.db.selectFrom('audit_leaves').selectAll().execute(), [row])
      const count = await store.db
        .selectFrom('audit_leaves')
        .select((is) => [is.fn.countAll().as('rows'), is.fn.sum('node_seq').as('sum')])
        .executeTakeFirstOrThrow()
      assert.deepEqual(count, { rows: 1, sum: 1 })
    })

    test('a write is whole or not at all, and reads do not see it before it is', async (t) => {
      const store = await open(t)
      await store.write(async (trx) => {
        await setMeta(trx, 'a', '1')
        assert.equal(await meta(store, 'a'), undefined)
        assert.equal(await meta(trx, 'a'), '1')
      })
      assert.equal(await meta(store, 'a'), '1')
      const failing = store.write(async (trx) => {
        await setMeta(trx, 'b', '1')
        throw new Error('after the first half')
      })
      await assert.rejects(failing, /first half/)
      assert.equal(await meta(store, 'b'), undefined)
    })

    test('reduce raises the epoch with the change, and not without it', async (t) => {
      const store = await open(t)
      const before = await store.epoch()
      assert.deepEqual(await store.reduce(async (trx) => setMeta(trx, 'a', '1')), { result: undefined, epoch: before + 1 })
      assert.equal(await store.epoch(), before + 1)
      const failing = store.reduce(async () => {
        throw new Error('no')
      })
      await assert.rejects(failing, /no/)
      assert.equal(await store.epoch(), before + 1)
    })

    test('changes of rights follow each other, so none decides on what another is changing', async (t) => {
      const store = await open(t)
      await setMeta(store.db, 'n', '0')
      const add = () => store.reduce(async (trx) => updateMeta(trx, 'n', String(Number(await meta(trx, 'n')) + 1)))
      const epochs = (await Promise.all(Array.from({ length: 20 }, add))).map((done) => done.epoch)
      assert.equal(await meta(store, 'n'), '20')
      assert.equal(new Set(epochs).size, 20)
    })

    test('rule 1: after a failed statement a transaction stores nothing, also when the failure was caught', async (t) => {
      const store = await open(t)
      const careless = store.write(async (trx) => {
        await setMeta(trx, 'a', '1')
        await setMeta(trx, 'a', '2').catch(() => {})
      })
      await assert.rejects(careless, code('store_unavailable'))
      assert.equal(await meta(store, 'a'), undefined)
    })

    test('a taken name is told apart from other failures', async (t) => {
      const store = await open(t)
      await addIdentity(store, 'boris')
      const again = await addIdentity(store, 'boris').catch((error: unknown) => error)
      assert.ok(again instanceof ChaperoneError && again.code === 'store_unavailable' && isUniqueViolation(again))
      const orphan = await addFactor(store, 'usr_nobody').catch((error: unknown) => error)
      assert.ok(orphan instanceof ChaperoneError && !isUniqueViolation(orphan), 'a row without its identity is refused')
      const untyped = await sql`update epoch set value = 'x'`.execute(store.db).catch((error: unknown) => error)
      assert.ok(untyped instanceof ChaperoneError && !isUniqueViolation(untyped), 'text in a number is refused')
    })

    test('a position is given once, documents have one name per kind, a purpose one active key', async (t) => {
      const store = await open(t)
      const leaf = (node_seq: number, position: number | null) => ({
        ...{ node_id: 'nod_1', node_seq, id: 'rec_1', at: 1, type: 'x', leaf: new Uint8Array(1), leaf_hash: new Uint8Array(32), position },
        ...{ identity_id: null, session_id: null, resource_id: null, verdict: null, permit: null },
      })
      const document = (id: string) => ({
        id,
        kind: 'role',
        name: 'r',
        labels: '{}',
        spec: '{}',
        digest: '',
        owner: null,
        applied_by: null,
        updated_at: 1,
      })
      const keyRow = (id: string, state: 'active' | 'retiring') => ({
        ...{ id, purpose: 'vault', algorithm: 'aes-256-gcm', public_key: null, wrapped: new Uint8Array(1), state, created_at: 1, retire_at: null },
      })
      await store.db
        .insertInto('audit_leaves')
        .values([leaf(1, 0), leaf(2, null), leaf(3, null)])
        .execute()
      await assert.rejects(store.db.insertInto('audit_leaves').values(leaf(4, 0)).execute(), isUniqueViolation)
      await store.db.insertInto('documents').values(document('res_1')).execute()
      await assert.rejects(store.db.insertInto('documents').values(document('res_2')).execute(), isUniqueViolation)
      await store.db
        .insertInto('keys')
        .values([keyRow('key_1', 'active'), keyRow('key_2', 'retiring')])
        .execute()
      await assert.rejects(store.db.insertInto('keys').values(keyRow('key_3', 'active')).execute(), isUniqueViolation)
    })

    test('a write inside a write is refused instead of waiting for itself', { timeout: 10_000 }, async (t) => {
      const store = await open(t)
      await assert.rejects(
        store.write(() => store.write(async () => {})),
        code('internal'),
      )
      await store.write(async (trx) => setMeta(trx, 'after', '1'))
    })

    test('two processes that open a new store at once both find one schema', async (t) => {
      const at = await place(t)
      const stores = await Promise.all([open(t, at), open(t, at)])
      assert.equal(await meta(stores[0]!, 'schema'), await meta(stores[1]!, 'schema'))
      await Promise.all(stores.flatMap((store) => [1, 2, 3].map(() => store.reduce(async () => {}))))
      assert.equal(await stores[0]!.epoch(), 7)
    })

    test('rule 1: a store written by a newer Chaperone is not opened', async (t) => {
      const at = await place(t)
      const store = await open(t, at)
      await updateMeta(store.db, 'schema', '99')
      await assert.rejects(openStore(at, { clock: systemClock }), code('schema_newer'))
      assert.equal(await meta(store, 'schema'), '99')
    })

    test('a migration that fails leaves nothing behind', async (t) => {
      const store = await open(t)
      const broken = {
        async up(db: Parameters<typeof migrate>[0] | object) {
          await sql`create table half (id text)`.execute(db as never)
          throw new Error('broken migration')
        },
      }
      const before = await meta(store, 'schema')
      const released = Array.from({ length: Number(before) }, () => ({ up: async () => {} }))
      await assert.rejects(
        store.write((trx) => migrate(trx, store.dialect, [...released, broken])),
        /broken migration/,
      )
      await assert.rejects(sql`select * from half`.execute(store.db), code('store_unavailable'))
      assert.equal(await meta(store, 'schema'), before)
    })

    test('what was stored is there when the store is opened again', async (t) => {
      const at = await place(t)
      const first = await openStore(at, { clock: systemClock })
      await first.write(async (trx) => setMeta(trx, 'a', '1'))
      await first.close()
      const second = await open(t, at)
      assert.equal(await meta(second, 'a'), '1')
    })

    test('a closed store refuses', async (t) => {
      const store = await openStore(await place(t), { clock: systemClock })
      await store.close()
      await assert.rejects(store.epoch())
      await assert.rejects(store.write(async () => {}))
    })

    test('time never goes backwards in the store, also when it is opened again', async (t) => {
      const at = await place(t)
      const ahead = Date.UTC(2040, 0, 1)
      const store = await open(t, at)
      await setMeta(store.db, 'time', String(ahead))
      assert.equal(await store.now(), ahead)
      assert.equal(await (await open(t, at, manualClock(1000))).now(), ahead)
    })

    leaseSuite(open, place)
  })
}

/** Long beside the halts of a busy machine: a lease that is renewed in time must not lapse here. */
const LIFE_MS = 2_500

function leaseSuite(open: (t: TestContext, at?: StoreLocation) => Promise<Store>, place: (t: TestContext) => Promise<StoreLocation>): void {
  const nodes = async (t: TestContext, store: Store, ...names: string[]) => {
    const leases = await Promise.all(
      names.map((nodeId) => startLease(store, { nodeId, address: `${nodeId}:1`, clock: systemClock, lifeMs: LIFE_MS, everyMs: 60 })),
    )
    for (const lease of leases) t.after(() => lease.stop())
    return leases
  }

  test('rule 6: a change is confirmed when every node has taken it in', async (t) => {
    const store = await open(t)
    const [one, two] = await nodes(t, store, 'nod_one', 'nod_two')
    const taken: string[] = []
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    one!.onEpoch((epoch) => void taken.push(`one ${epoch}`))
    const twoSees = new Promise<void>((resolve) => {
      two!.onEpoch(async (epoch) => {
        resolve()
        await held
        taken.push(`two ${epoch}`)
      })
    })
    const { epoch } = await store.reduce(async () => {})
    let done = false
    const confirmed = one!.confirmed(epoch).then(({ ms }) => {
      done = true
      assert.ok(ms >= 0)
    })
    await twoSees
    assert.equal(done, false)
    release()
    await confirmed
    assert.deepEqual(taken.sort(), [`one ${epoch}`, `two ${epoch}`])
    assert.equal(one!.epoch(), epoch)
    assert.equal(two!.epoch(), epoch)
  })

  test('rule 1: a node that cannot take a change in loses its lease, and is not waited for longer', async (t) => {
    const store = await open(t)
    const [one, two] = await nodes(t, store, 'nod_one', 'nod_two')
    two!.onEpoch(() => {
      throw new Error('cannot load the roles')
    })
    const { epoch } = await store.reduce(async () => {})
    await one!.confirmed(epoch)
    assert.equal(two!.valid(), false)
    await assert.rejects(two!.ensure(), (error: ChaperoneError) => error.code === 'lease_lapsed' && /cannot load the roles/.test(error.detail ?? ''))
    assert.equal(one!.valid(), true)
  })

  test('rule 6: a node that was cut off has lost its lease before the change is confirmed without it', async (t) => {
    const at = await place(t)
    const store = await open(t, at)
    const [one] = await nodes(t, store, 'nod_one')
    const far = await openStore(at, { clock: systemClock })
    const two = await startLease(far, { nodeId: 'nod_two', address: 'b:1', clock: systemClock, lifeMs: LIFE_MS, everyMs: 60 })
    const { epoch } = await store.reduce(async () => {})
    await far.close()
    await one!.confirmed(epoch)
    assert.equal(two.valid(), false)
    await assert.rejects(two.ensure(), code('lease_lapsed'))
    await two.stop()
  })

  test('a node that left is not waited for', async (t) => {
    const store = await open(t)
    const [one] = await nodes(t, store, 'nod_one')
    const two = await startLease(store, { nodeId: 'nod_two', address: 'b:1', clock: systemClock, lifeMs: 60_000, everyMs: 30_000 })
    await two.stop()
    assert.equal(two.valid(), false)
    const { epoch } = await store.reduce(async () => {})
    const { ms } = await one!.confirmed(epoch)
    assert.ok(ms < 20_000, `${ms} ms of the minute that it would have lived`)
  })

  test('a row that was taken away is made anew, and only after that the epoch is believed', async (t) => {
    const store = await open(t)
    const clock = manualClock(Date.now())
    const lease = await startLease(store, { nodeId: 'nod_one', address: 'a:1', clock, lifeMs: 5000, everyMs: 1000 })
    t.after(() => lease.stop())
    const seen: unknown[] = []
    lease.onEpoch((epoch) => void seen.push(epoch, lease.valid()))
    await store.db.deleteFrom('leases').execute()
    const { epoch } = await store.reduce(async () => {})
    clock.advance(6000) // every renewal of this time is asked for at once; ensure waits for them
    await lease.ensure()
    assert.equal(lease.valid(), true)
    assert.deepEqual(seen, [epoch, false], 'others may have gone on without us: not valid before the change is taken in')
    const rows = await store.db.selectFrom('leases').select(['node_id', 'epoch_seen']).execute()
    assert.deepEqual(rows, [{ node_id: 'nod_one', epoch_seen: epoch }])
  })

  test('rule 6: a lease that has run out is not brought back by a late renewal', async (t) => {
    const store = await open(t)
    const row = { nodeId: 'nod_late', address: 'a:1', lifeMs: 1000, epochSeen: 1 }
    await joinRow(store, systemClock, { ...row, lifeMs: 60_000 })
    assert.equal((await renewRow(store, systemClock, row)).kept, true)
    await joinRow(store, systemClock, { ...row, lifeMs: 0 })
    assert.equal((await renewRow(store, systemClock, row)).kept, false)
    assert.equal(await everyRowHasSeen(store, systemClock, 2), true)
  })

  test('rule 4: a clock that is set back or forward, or stands still, extends no lease', async (t) => {
    const store = await open(t)
    let wall = Date.now()
    let monotonic = 0
    const clock = { now: () => wall, monotonic: () => monotonic, at: () => () => {} }
    const lease = await startLease(store, { nodeId: 'nod_one', address: 'a:1', clock, lifeMs: 1000, everyMs: 300 })
    t.after(() => lease.stop())
    assert.equal(lease.valid(), true)
    const start = wall
    wall = start - 3_600_000
    assert.equal(lease.valid(), false, 'set back')
    wall = start + 500
    monotonic = 1500
    assert.equal(lease.valid(), false, 'set back by less than the lease')
    monotonic = 500
    assert.equal(lease.valid(), true)
    wall = start + 3_600_000
    assert.equal(lease.valid(), false, 'set forward, or woken from a suspend')
  })
}

/** A predicate for assert.rejects. */
function code(expected: ReasonCode) {
  return (error: unknown) => error instanceof ChaperoneError && error.code === expected
}

type Reader = Pick<Store, 'db'> | Store['db']
const database = (from: Reader): Store['db'] => ('db' in from ? from.db : from)

async function meta(from: Reader, key: string): Promise<string | undefined> {
  const row = await database(from).selectFrom('meta').select('value').where('key', '=', key).executeTakeFirst()
  return row?.value
}

async function setMeta(db: Store['db'], key: string, value: string): Promise<void> {
  await db.insertInto('meta').values({ key, value }).execute()
}

async function updateMeta(db: Store['db'], key: string, value: string): Promise<void> {
  await db.updateTable('meta').set({ value }).where('key', '=', key).execute()
}

async function addIdentity(store: Store, name: string): Promise<void> {
  const fixed = {
    kind: 'user',
    owner_id: null,
    state: 'active',
    traits: '{}',
    roles: '[]',
    source: 'document',
    created_at: 1,
    updated_at: 1,
  } as const
  await store.db
    .insertInto('identities')
    .values({ id: newId('usr'), name, ...fixed })
    .execute()
}

async function addFactor(store: Store, identity_id: string): Promise<void> {
  const fixed = { kind: 'totp', sealed: new Uint8Array(1), last_step: 0, failures: 0, blocked_until: 0, created_at: 1 } as const
  await store.db
    .insertInto('factors')
    .values({ id: newId('fac'), identity_id, ...fixed })
    .execute()
}
