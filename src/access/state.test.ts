import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIdentity, setIdentityState } from '../identity/directory.ts'
import { decide } from '../policy/decide.ts'
import type { Database, Store } from '../store/store.ts'
import { chaperoneVocabulary } from './administration.ts'
import { apply, guardPlace, refusedAs, START } from './guard.fixture.ts'
import { keepState } from './state.ts'

test('rule 1: a load that fails leaves the old state, and the next one is tried afresh', async (t) => {
  const { store } = await guardPlace(t)
  let broken = false
  const db = new Proxy(store.db, {
    get(target, name) {
      if (broken && name === 'selectFrom') throw new Error('the store does not answer')
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  }) as Database
  const state = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const before = state.current()
  const { epoch } = await store.reduce(async () => {})
  broken = true
  await assert.rejects(state.refresh(epoch))
  assert.equal(state.current(), before)
  broken = false
  assert.equal((await state.refresh(epoch)).epoch, epoch)
})

/** The store, where the next read of a table waits for some work, before it is made or before it answers. */
function slowed(store: Store, table: string, when: 'before' | 'after', work: () => Promise<unknown>): { readonly db: Store['db']; arm(): void } {
  let once = false
  const slow = (query: object): object =>
    new Proxy(query, {
      get(target, key) {
        const value = Reflect.get(target, key) as unknown
        if (typeof value !== 'function') return value
        if (key !== 'execute') return (...args: unknown[]) => slow(value.apply(target, args))
        return async () => {
          const mine = once
          once = false
          if (mine && when === 'before') await work()
          const rows: unknown = await value.call(target)
          if (mine && when === 'after') await work()
          return rows
        }
      },
    })
  const db = new Proxy(store.db, {
    get: (target, key) =>
      key === 'selectFrom'
        ? (name: string) => (name === table && once ? slow(target.selectFrom(name as 'documents')) : target.selectFrom(name as 'documents'))
        : (Reflect.get(target, key) as unknown),
  })
  const arm = () => {
    once = true
  }
  return { db, arm }
}

test('rule 6: an identity that is disabled while it is looked up is not brought back to life by the answer', async (t) => {
  const { store } = await guardPlace(t)
  const { db, arm } = slowed(store, 'identities', 'after', async () => {
    const { epoch } = await store.reduce((trx) => setIdentityState(trx, late.id, 'disabled', START))
    await keeper.refresh(epoch)
  })
  const keeper = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const late = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'late', roles: ['ops'], source: 'document', now: START }))
  arm()
  await keeper.see([{ identity: late.id }])
  assert.throws(() => keeper.current().links([{ identity: late.id }], START), refusedAs('identity_disabled'))
})

test('rule 6: rights are read as of one moment: an old role and a new holder of it never meet', async (t) => {
  const { store } = await guardPlace(t)
  // In one change `ops` loses its verbs and somebody else gets it.
  const newcomer = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'newcomer', roles: [], source: 'document', now: START }))
  const { db, arm } = slowed(store, 'identities', 'before', () =>
    store.reduce(async (trx) => {
      await trx.updateTable('documents').set({ spec: '{"allow":[]}' }).where('name', '=', 'ops').execute()
      await trx.updateTable('identities').set({ roles: '["ops"]' }).where('id', '=', newcomer.id).execute()
    }),
  )
  arm()
  const mixed = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const links = mixed.current().links([{ identity: newcomer.id }], START)
  const { verdict } = decide(mixed.current().policy, { links, action: apply, now: START, session: { id: 's', startedAt: START, how: 'login' } })
  assert.equal(verdict, 'deny')
})
