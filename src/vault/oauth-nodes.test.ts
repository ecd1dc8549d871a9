import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fakeOAuth } from '../../test/fakes/oauth-server.ts'
import { mcpServerSpec } from '../catalog/mcp-server.ts'
import { type Clock, systemClock } from '../clock.ts'
import { startPostgres } from '../demo/postgres.ts'
import { toChaperoneError } from '../errors.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { openLogins } from './oauth.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-login-nodes-'))
const postgres = await startPostgres({ dir, settings: { fsync: 'off' } }).catch(toChaperoneError)
const skip = 'stop' in postgres ? false : `no PostgreSQL here: ${postgres.message}`
const chain = [{ identity: 'usr_1' }]

for (const bound of [false, true])
  test(`two nodes over one PostgreSQL, refresh tokens of one use, ${bound ? 'bound to a key' : 'bearer'}: one asks, and a lost answer costs a login and nothing else`, {
    skip,
  }, async (t) => {
    if (!('stop' in postgres)) return
    const fake = await fakeOAuth()
    fake.knobs.bound = bound
    let ahead = 0
    const clock: Clock = { now: () => systemClock.now() + ahead, at: (at, wake) => systemClock.at(at - ahead, wake) }
    const records: string[] = []
    let away: number | undefined
    const stores: Store[] = []
    const node = async (failing: boolean) => {
      const real = await openStore({ url: postgres.superuserUrl }, { clock })
      stores.push(real)
      const rootKey = await loadRootKey({ store: real, createAt: join(dir, 'root-key') })
      // The store is away for one write: between the answer of the authorization server and its storing.
      const write: Store['write'] = async (work) => {
        if (failing && away !== undefined && fake.tokens.length > away) {
          away = undefined
          throw new Error('the store is away')
        }
        return await real.write(work)
      }
      const store = { ...real, db: real.db, write } as Store
      const audit = {
        append: async ({ data }: { data?: Record<string, unknown> }) => ({ id: 'rec', seq: records.push(String(data?.what)) }),
        addSecrets() {},
      }
      return openLogins({ store, keyring: await openKeyring(real, rootKey, clock), clock, audit, reveal: async () => '' })
    }
    const nodes = [await node(true), await node(false)] as const
    t.after(async () => {
      await fake.close()
      for (const store of stores) await store.close()
    })
    const server = { id: `res_${bound}`, name: 'wiki', spec: mcpServerSpec.parse({ url: fake.url, auth: { oauth: {} } }) }
    const logIn = async () => {
      const { url } = await nodes[0].begin(server, { subject: '*', identity: 'usr_1', redirect: 'http://127.0.0.1:4711/callback', by: {} })
      await nodes[1].finish(server, Object.fromEntries(fake.approve(url)) as { state: string }, { identity: 'usr_1', by: {} })
    }
    const later = (ms: number) => {
      ahead += ms
      fake.proofs.login.knobs.aheadMs = ahead
    }
    const ask = async (at: number) => (await nodes[at]!.of(server, chain).token())?.value
    await logIn()
    for (let round = 1; round <= 4; round++) {
      later(3_600_000)
      const got = await Promise.all([0, 1, 0, 1, 0, 1].map(ask))
      assert.deepEqual(new Set(got), new Set([fake.tokens[round]!.access]))
      assert.equal(fake.of('/token').length, 1 + round, 'whoever is second waits for the first')
    }

    // The store fails for a moment: what was given is kept, and stored when it can be.
    later(3_600_000)
    away = fake.tokens.length
    await assert.rejects(ask(0), /away/)
    assert.equal(await ask(0), fake.tokens[5]!.access)
    later(2_000)
    assert.equal(await ask(1), fake.tokens[5]!.access)
    assert.equal(fake.of('/token').length, 6)

    // The node dies there: nobody has the new refresh token, and the old one is used up.
    later(3_600_000)
    away = fake.tokens.length
    await assert.rejects(ask(0), /away/)
    later(40_001)
    assert.equal(await ask(1), undefined)
    assert.equal(records.at(-1), 'ended')
    await assert.rejects(nodes[1].of(server, chain).refused(401, undefined, undefined), { code: 'upstream_login_required' })
    await logIn()
    later(2_000)
    for (const at of [0, 1]) assert.equal(await ask(at), fake.tokens.at(-1)!.access, 'and a new login serves both')

    // A server that forgot its tokens turns one down at both nodes: nobody has to log in while one of them asks for the next.
    later(6_000)
    const before = fake.of('/token').length
    const used = (await ask(0))!
    const turned = await Promise.all([0, 1].map((at) => nodes[at]!.of(server, chain).refused(401, undefined, used)))
    assert.deepEqual(turned, [true, true])
    assert.equal(fake.of('/token').length, before + 1)
  })

test('the database of these tests ends', { skip }, async () => {
  if ('stop' in postgres) await postgres.stop()
  await rm(dir, { recursive: true, force: true })
})
