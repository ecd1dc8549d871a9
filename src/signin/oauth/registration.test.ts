import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { openStore } from '../../store/open.ts'
import { openClients } from './clients.ts'

const HOUR = 3_600_000
const MOST = 2_000

async function registering(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-registration-'))
  const clock = manualClock(Date.UTC(2026, 10, 23))
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    rmSync(dir, { recursive: true })
  })
  const clients = openClients({
    store,
    clock,
    audit: { append: async () => ({ id: 'rec', seq: 1 }) },
    resources: { list: () => [] },
    outgoing: { fetch: () => assert.fail('nothing is fetched') } as never,
    hosts: [],
    trustDomain: 'test',
  })
  const register = (client_id: string) =>
    clients.register({ client_id, client_name: 'X', redirect_uris: ['http://localhost/cb'], token_endpoint_auth_method: 'none' })
  /** As if strangers had registered so many. */
  const fill = async (count: number) => {
    const row = (await store.db.selectFrom('oauth_clients').selectAll().executeTakeFirst())!
    const many = Array.from({ length: count }, (_, i) => ({ ...row, client_id: `stranger-${i}`, fresh_until: clock.now() + HOUR }))
    await store.write(async (trx) => {
      for (let from = 0; from < many.length; from += 100)
        await trx
          .insertInto('oauth_clients')
          .values(many.slice(from, from + 100))
          .execute()
    })
  }
  return { clients, clock, store, register, fill }
}

test('rule 11: who registers when all places are taken is refused, and takes the place of nobody', async (t) => {
  const { clients, register, fill } = await registering(t)
  await register('mine')
  await clients.agreedTo('mine')
  await fill(MOST - 1)
  await assert.rejects(register('one-more'), { code: 'too_many' })
  assert.ok(await clients.find('mine'))
  assert.equal(await clients.find('one-more'), undefined)
})

test('a client that nobody agreed to is gone after an hour; one that was used stays for a month from its last consent', async (t) => {
  const { clients, clock, store, register, fill } = await registering(t)
  for (const id of ['used', 'unused']) await register(id)
  await clients.agreedTo('used')
  await fill(MOST - 2)
  clock.advance(HOUR)
  assert.equal(await clients.find('unused'), undefined)
  assert.ok(await clients.find('used'))
  // Places of what is over are free, swept or not.
  await register('late')
  await clients.sweep()
  const left = await store.db.selectFrom('oauth_clients').select('client_id').orderBy('client_id').execute()
  assert.deepEqual(left, [{ client_id: 'late' }, { client_id: 'used' }])
  clock.advance(29 * 24 * HOUR)
  await clients.agreedTo('used')
  clock.advance(29 * 24 * HOUR)
  assert.ok(await clients.find('used'))
  clock.advance(2 * 24 * HOUR)
  assert.equal(await clients.find('used'), undefined)
})
