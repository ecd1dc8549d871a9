import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { startPostgres } from '../../demo/postgres.ts'
import { toChaperoneError } from '../../errors.ts'
import { openStore } from '../../store/open.ts'
import { makeAdapter } from './adapter.ts'
import { openRecords, sweepRecords } from './records.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-records-'))
const began = await startPostgres({ dir: join(dir, 'postgres') }).catch(toChaperoneError)
after(async () => {
  if ('stop' in began) await began.stop()
  await rm(dir, { recursive: true, force: true })
})

const SECRET = 'what-the-client-holds'

for (const dialect of ['sqlite', 'postgres'] as const) {
  const skip = dialect === 'postgres' && !('stop' in began) ? `no PostgreSQL here: ${began.message}` : false
  describe(`what the OAuth server keeps, on ${dialect}`, { skip }, () => {
    const open = async (t: { after(work: () => unknown): void }) => {
      const clock = manualClock(Date.parse('2026-11-23T10:00:00Z'))
      const where = dialect === 'postgres' && 'stop' in began ? { url: began.superuserUrl } : { dataDir: dir }
      const store = await openStore(where, { clock })
      t.after(() => store.close())
      return { store, clock, records: openRecords(store, clock, 'RefreshToken') }
    }

    test('holds no secret, not even in what it says', async (t) => {
      const { store, records } = await open(t)
      await records.upsert(SECRET, { jti: SECRET, grantId: 'g1', accountId: 'usr' }, 60)
      assert.deepEqual(await records.find(SECRET), { jti: SECRET, grantId: 'g1', accountId: 'usr' })
      const rows = await store.db.selectFrom('oauth_records').selectAll().execute()
      assert.ok(rows.length > 0 && !JSON.stringify(rows).includes(SECRET))
    })

    test('is used up once, whoever comes at the same moment', async (t) => {
      const { records } = await open(t)
      await records.upsert('twice', { grantId: 'g2' }, 60)
      const both = await Promise.allSettled([1, 2, 3].map(() => records.consume('twice')))
      assert.equal(both.filter(({ status }) => status === 'fulfilled').length, 1)
      assert.ok((await records.find('twice'))?.consumed)
    })

    test('a signature that was used is written down by one of all who bring it at the same moment, and again when it is over', async (t) => {
      const { store, clock } = await open(t)
      const bring = () => makeAdapter({ store, clock, answering: () => undefined } as never)('ReplayDetection').upsert('once', { iss: 'job' }, 60)
      const all = await Promise.allSettled([1, 2, 3].map(bring))
      assert.equal(all.filter(({ status }) => status === 'fulfilled').length, 1)
      for (const one of all) if (one.status === 'rejected') assert.equal((one.reason as { error: string }).error, 'invalid_client')
      clock.advance(60_000)
      await bring()
    })

    test('an answer of a person is taken by one of all who come for it at the same moment', async (t) => {
      const { store, clock } = await open(t)
      const kept = makeAdapter({ store, clock, answering: () => undefined } as never)('Interaction')
      await kept.upsert('answered', { uid: 'answered' }, 60)
      const all = await Promise.allSettled([1, 2, 3].map(() => kept.destroy('answered')))
      assert.equal(all.filter(({ status }) => status === 'fulfilled').length, 1)
      for (const one of all) if (one.status === 'rejected') assert.equal((one.reason as { error: string }).error, 'invalid_request')
    })

    test('is over at its time, and thrown away then', async (t) => {
      const { store, clock, records } = await open(t)
      await records.upsert('short', { grantId: 'g3' }, 60)
      clock.advance(59_999)
      assert.ok(await records.find('short'))
      clock.advance(1)
      assert.equal(await records.find('short'), undefined)
      await sweepRecords(store, clock)
      assert.equal(await store.db.selectFrom('oauth_records').selectAll().where('grant_id', '=', 'g3').executeTakeFirst(), undefined)
    })

    test('goes with its grant', async (t) => {
      const { records } = await open(t)
      await records.upsert('one', { grantId: 'g4' }, 60)
      await records.upsert('other', { grantId: 'g5' }, 60)
      await records.revokeByGrantId('g4')
      assert.equal(await records.find('one'), undefined)
      assert.ok(await records.find('other'))
    })

    test('rule 11: each network has a share of the sign-ins under way; its own oldest makes room, and nobody else’s', async (t) => {
      const { store, clock } = await open(t)
      let address: string | undefined
      const records = openRecords(store, clock, 'Interaction', () => address)
      const begin = async (from: string | undefined, id: string) => {
        address = from
        await records.upsert(id, { uid: id, params: {} }, 600)
        clock.advance(1)
      }
      await begin('192.0.2.1', 'of-the-office')
      for (let i = 0; i < 100; i++) await begin('198.51.100.7', `flood-${i}`)
      assert.ok(await records.find('flood-0'))
      // What its person has answered is written again by our own pages, and holds no place of its network any more.
      await begin(undefined, 'flood-0')
      await begin('198.51.100.7', 'flood-100')
      assert.ok(await records.find('flood-1'))
      await begin('198.51.100.7', 'flood-101')
      assert.equal(await records.find('flood-1'), undefined)
      for (const id of ['flood-0', 'flood-2', 'flood-100', 'of-the-office']) assert.ok(await records.find(id), id)
      // Of one /48 two hundred, from however many of its /64s, however they are written.
      await begin('2001:db8:2::1', 'neighbour')
      for (let i = 0; i < 201; i++) await begin(`2001:${i % 2 ? 'db8' : 'DB8'}:1:${i.toString(16)}::1`, `six-${i}`)
      assert.equal(await records.find('six-0'), undefined)
      for (const id of ['six-1', 'six-200', 'neighbour', 'of-the-office']) assert.ok(await records.find(id), id)
    })

    test('rule 11: a flood from hundreds of networks takes places from itself, and an honest sign-in keeps its own', async (t) => {
      const { store, clock } = await open(t)
      await store.write((trx) => trx.deleteFrom('oauth_records').execute())
      let address: string | undefined
      const records = openRecords(store, clock, 'Interaction', () => address)
      const begin = async (from: string | undefined, id: string) => {
        address = from
        await records.upsert(id, { uid: id, params: {} }, 600)
        clock.advance(1)
      }
      await begin('192.0.2.1', 'honest')
      const row = await store.db.selectFrom('oauth_records').selectAll().where('model', '=', 'Interaction').executeTakeFirstOrThrow()
      const flood = Array.from({ length: 9_999 }, (_, i) => {
        const network = i % 2 ? `10.${i % 100}.1.1` : `2001:db8:${(i % 100).toString(16)}:${i.toString(16)}`
        return { ...row, id: `x${i}`, uid: null, network, expires_at: row.expires_at! + i }
      })
      await store.write(async (trx) => {
        for (let at = 0; at < flood.length; at += 1000)
          await trx
            .insertInto('oauth_records')
            .values(flood.slice(at, at + 1000))
            .execute()
      })
      const left = async () =>
        Number(
          (
            await store.db
              .selectFrom('oauth_records')
              .select((one) => one.fn.countAll<number>().as('count'))
              .executeTakeFirstOrThrow()
          ).count,
        )
      assert.equal(await left(), 10_000)
      // He comes while all places are taken; and the flood goes on, with what is new and with what is newer than his.
      await begin('203.0.113.1', 'late')
      for (let i = 0; i < 60; i++) await begin(`10.200.${i}.1`, `more-${i}`)
      for (const id of ['honest', 'late']) assert.ok(await records.find(id), id)
      assert.equal(await left(), 10_000)
      // Where nobody holds two, and all is answered by its person, nobody gives way.
      await store.write((trx) => trx.updateTable('oauth_records').set({ network: null }).execute())
      await assert.rejects(begin('203.0.113.2', 'refused'), { code: 'too_many' })
      await begin(undefined, 'honest')
    })
  })
}
