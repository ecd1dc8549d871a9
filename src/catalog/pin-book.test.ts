import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import pg from 'pg'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { startPostgres } from '../demo/postgres.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { openStore, type StoreLocation } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { DECIDING, openPinBook, pinOf } from './pin-book.ts'
import { definitionOf, heldBack, type Pin, pinsByServer } from './pins.ts'

const SERVER = { id: 'res_files', name: 'files' }
const BORIS = { actor: { id: 'agt_boris', name: 'boris/claude-code', kind: 'agent' }, session: 'ses_1' }
const DANA = { actor: { id: 'usr_dana', name: 'dana', kind: 'user' } }
const define = (text: string) => definitionOf(text, JSON.stringify(text))
const seen = (name: string, text = name) => ({ kind: 'tool' as const, name, definition: define(text) })
const conflict = (error: unknown) => error instanceof ChaperoneError && error.code === 'conflict'

/** One node: its own idea of the state, over a store that it may share. */
async function node(store: Store, clock = manualClock(1_000)) {
  const records: Draft[] = []
  const epochs: number[] = []
  const load = async () =>
    pinsByServer((await store.db.selectFrom('pins').select(DECIDING).execute()).map((row): [string, Pin] => [row.resource_id, pinOf(row)]))
  let pins = await load()
  const refresh = async () => {
    pins = await load()
  }
  const given = { failing: false }
  const book = openPinBook({
    store,
    clock,
    audit: {
      async append(draft) {
        if (given.failing) throw new ChaperoneError('audit_unavailable', 'no')
        return { id: 'rec', seq: records.push(draft) }
      },
    },
    current: (id) => pins(id),
    async raised(epoch) {
      epochs.push(epoch)
      await refresh()
    },
  })
  return Object.assign(given, { book, records, epochs, clock, refresh, types: () => records.map((record) => record.type) })
}

function suite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(name, { skip: options.skip ?? false }, () => {
    const open = async (t: TestContext) => {
      const store = await openStore(await place(t), { clock: manualClock(0) })
      t.after(() => store.close())
      return store
    }

    test('what is seen first holds, is recorded once, and is known when `observe` resolves', async (t) => {
      const store = await open(t)
      const { book, records, epochs } = await node(store)
      const list = [seen('read'), seen('wr\\ïte', '{"x":"\u{1F512}"}')]
      await book.observe(SERVER, list, BORIS)
      await book.observe(SERVER, list, BORIS)
      assert.deepEqual(
        (await book.rows(SERVER.id)).map((row) => [row.name, row.approved_sha256, row.approved_by, row.pending_sha256]),
        list.map((one) => [one.name, one.definition.sha256, null, null]),
      )
      assert.equal(book.of(SERVER.id).get('tool', 'read')?.approved, define('read').sha256)
      assert.equal(epochs.length, 1)
      assert.deepEqual(
        records.map(({ type, session, data }) => [type, session, data?.count]),
        [['pin.seen', 'ses_1', 2]],
      )
      assert.equal((await book.row(SERVER, { kind: 'tool', name: 'wr\\ïte' })).approved, define('{"x":"\u{1F512}"}').text)
    })

    test('rule 3: what cannot be recorded is not stored', async (t) => {
      const given = await node(await open(t))
      given.failing = true
      await assert.rejects(given.book.observe(SERVER, [seen('read')], BORIS))
      assert.deepEqual(await given.book.rows(SERVER.id), [])
    })

    test('sessions that list at once see one thing for the first time', async (t) => {
      const { book, types } = await node(await open(t))
      await Promise.all(Array.from({ length: 8 }, () => book.observe(SERVER, [seen('read')], BORIS)))
      assert.deepEqual(types(), ['pin.seen'])
    })

    test('two nodes that see two definitions of a new tool end with one that waits', async (t) => {
      const store = await open(t)
      const [a, b] = [await node(store), await node(store)]
      await Promise.all([a.book.observe(SERVER, [seen('send', 'one')], BORIS), b.book.observe(SERVER, [seen('send', 'two')], BORIS)])
      const row = await a.book.row(SERVER, { kind: 'tool', name: 'send' })
      assert.deepEqual([row.approved_sha256, row.pending_sha256].sort(), [define('one').sha256, define('two').sha256].sort())
    })

    test('an approval is of the hash that was shown, of all or of none, and confirms', async (t) => {
      const { book, types } = await node(await open(t))
      await book.observe(SERVER, [seen('read'), seen('send')], BORIS)
      await book.observe(SERVER, [seen('send', 'changed')], BORIS)
      const read = { kind: 'tool', name: 'read', sha256: define('read').sha256 } as const
      const send = (text: string) => ({ kind: 'tool', name: 'send', sha256: define(text).sha256 }) as const
      await assert.rejects(book.approve(SERVER, [read, send('send')], DANA), conflict)
      await assert.rejects(book.approve(SERVER, [read, send('something')], DANA), conflict)
      await assert.rejects(book.approve(SERVER, [{ ...read, name: 'never' }], DANA), /never seen/)
      assert.equal(book.of(SERVER.id).confirmed, false)
      assert.equal(heldBack(book.of(SERVER.id), send('')), 'changed')
      await book.approve(SERVER, [read, send('changed')], DANA)
      assert.deepEqual(
        (await book.rows(SERVER.id)).map((row) => [row.name, row.approved_by, row.approved_sha256, row.pending_sha256, row.pending_at]),
        [
          ['read', 'usr_dana', define('read').sha256, null, null],
          ['send', 'usr_dana', define('changed').sha256, null, null],
        ],
      )
      assert.equal((await book.row(SERVER, send(''))).approved, define('changed').text)
      assert.deepEqual(types(), ['pin.seen', 'pin.changed', 'pin.approved'])
    })

    test('after a confirmation another node holds back what is new, though it had not heard of it', async (t) => {
      const store = await open(t)
      const [a, b] = [await node(store), await node(store)]
      await a.book.observe(SERVER, [seen('read')], BORIS)
      await a.book.approve(SERVER, [{ kind: 'tool', name: 'read', sha256: define('read').sha256 }], DANA)
      await b.book.observe(SERVER, [seen('brand-new')], BORIS)
      assert.equal(heldBack(b.book.of(SERVER.id), { kind: 'tool', name: 'brand-new' }), 'new')
      assert.equal((await b.book.row(SERVER, { kind: 'tool', name: 'brand-new' })).approved, null)
    })

    test('keeping turns the new one down, and every decision is later than the one before', async (t) => {
      const { book, types } = await node(await open(t))
      await book.observe(SERVER, [seen('send')], BORIS)
      await assert.rejects(book.keep(SERVER, seen('send'), DANA), conflict)
      const decided: number[] = []
      for (const text of ['two', 'three']) {
        await book.observe(SERVER, [seen('send', text)], BORIS)
        await book.keep(SERVER, seen('send'), DANA)
        decided.push(book.of(SERVER.id).decidedAt)
        assert.equal(heldBack(book.of(SERVER.id), seen('send')), undefined)
        assert.equal((await book.row(SERVER, seen('send'))).approved_by, null)
      }
      assert.ok(decided[1]! > decided[0]!)
      assert.deepEqual(types(), ['pin.seen', 'pin.changed', 'pin.kept', 'pin.changed', 'pin.kept'])
    })

    test('rule 11: a server has room for so many names, and what is beyond is not used', async (t) => {
      const { book } = await node(await open(t))
      await book.observe(
        SERVER,
        Array.from({ length: 1_010 }, (_, i) => seen(`t${i}`)),
        BORIS,
      )
      assert.equal((await book.rows(SERVER.id)).length, 1_000)
      assert.equal(heldBack(book.of(SERVER.id), seen('t1009')), 'new')
      assert.equal(heldBack(book.of(SERVER.id), seen('t0')), undefined)
    })
  })
}

suite('SQLite', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-pins-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  return { dataDir }
})

const dir = await mkdtemp(join(tmpdir(), 'chaperone-pins-'))
const server = await startPostgres({ dir, settings: { fsync: 'off' } }).catch(toChaperoneError)
after(async () => {
  if ('stop' in server) await server.stop()
  await rm(dir, { recursive: true, force: true })
})

suite(
  'PostgreSQL',
  async () => {
    if (!('stop' in server)) throw server
    const name = `pins_${randomBytes(6).toString('hex')}`
    const client = new pg.Client({ connectionString: server.superuserUrl })
    await client.connect()
    await client.query(`create database ${name}`)
    await client.end()
    return { url: server.superuserUrl.replace(/\/postgres$/, `/${name}`) }
  },
  'stop' in server ? {} : { skip: `no PostgreSQL here: ${server.message} ${server.fix ?? ''}` },
)
