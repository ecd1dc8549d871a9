import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import type { Draft } from '../../audit/record.ts'
import { manualClock } from '../../clock.ts'
import { newId } from '../../ids.ts'
import type { Limits } from '../../policy/types.ts'
import { openStore } from '../../store/open.ts'
import type { Store } from '../../store/store.ts'
import type { LockTable } from '../../store/tables.ts'
import { createIdentity, findIdentity, type IdentityRecord, setIdentityState } from '../directory.ts'
import { lockFor, sessionsOf } from '../locks.ts'
import { openSessions } from '../sessions.ts'
import type { ChainLink, LiveSession, Sessions } from '../types.ts'
import { actAsClient } from './act-for.ts'
import { consentWords } from './consent.ts'
import { delegate } from './delegate.ts'
import { listDelegations, makeDelegation, sweepDelegations } from './delegations.ts'
import { type ExchangeAsk, type Exchanged, exchange } from './exchange.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const start = Date.UTC(2026, 10, 23, 12)

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let sessions: Sessions
let records: Draft[]
let boris: IdentityRecord
let bot: IdentityRecord
let helper: IdentityRecord

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-delegations-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  records = []
  sessions = openSessions({ store, clock, audit, raised: async () => {}, mayAct: async () => {} })
  await store.write(async (trx) => {
    boris = await createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now: start })
    bot = await createIdentity(trx, { kind: 'agent', name: 'bot', ownerId: boris.id, source: 'document', now: start })
    helper = await createIdentity(trx, { kind: 'agent', name: 'helper', ownerId: boris.id, source: 'document', now: start })
  })
})

afterEach(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

const audit = { append: async (draft: Draft) => ({ id: 'rec', seq: records.push(draft) }) }
const ended = () => records.filter(({ type }) => type === 'delegation.ended').map(({ data }) => data as Record<string, unknown>)

/** A live session of this chain, shown over mTLS. */
async function live(identity: IdentityRecord, chain: readonly ChainLink[], sessionId: string, notAfter = clock.now() + HOUR): Promise<LiveSession> {
  const principal = { identityId: identity.id, kind: identity.kind, name: identity.name, credentialId: newId('crd', clock.now()) }
  return sessions.open({ ...principal, sessionId, chain, notAfter, proof: 'mtls' })
}

async function person(lifeMs = 8 * HOUR): Promise<LiveSession> {
  const chain = [{ identity: boris.id }]
  const { id } = await sessions.start({ identityId: boris.id, chain, how: 'login', lifeMs })
  return live(boris, chain, id)
}

/** `bot` in a session on behalf of boris. */
async function acting(
  from: LiveSession,
  given: { readonly forMs?: number; readonly bound?: boolean; readonly limits?: Limits; readonly lifeMs?: number } = {},
) {
  const delegation = await delegate({ store, audit, clock }, { agreed: from, from: boris, to: bot, how: 'run', ...given })
  const chain = [{ identity: boris.id }, { identity: bot.id, delegation: delegation.id }]
  const { id, expiresAt } = await sessions.start({ identityId: bot.id, chain, how: 'run', parentId: from.id, lifeMs: given.lifeMs ?? 4 * HOUR })
  return { session: await live(bot, chain, id), delegation, expiresAt }
}

const handOn = (ask: Omit<ExchangeAsk, 'to'> & { readonly to?: string }): Promise<Exchanged> =>
  exchange({ store, audit, clock, sessions, see: async () => {} }, { to: 'helper', ...ask }, async (made) => made)

test('rule 4: a session lasts no longer than any delegation of its chain, and is cut at that minute by its own timer', async () => {
  const { session, expiresAt } = await acting(await person(), { forMs: 10 * MINUTE })
  assert.equal(expiresAt, start + 10 * MINUTE)
  const connection = session.connect('postgres')
  clock.advance(10 * MINUTE - 1)
  assert.equal(connection.signal.aborted, false)
  clock.advance(1)
  assert.equal(connection.signal.aborted, true)
  await assert.rejects(live(bot, session.principal.chain, session.id), { code: 'session_ended' })
})

test('rule 7: what is handed on is never longer than what it is part of, however often and for whatever time it is asked for', async () => {
  const time = fc.option(fc.integer({ min: MINUTE, max: 20 * HOUR }), { nil: undefined })
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: HOUR, max: 12 * HOUR }), time, time, time, time, async (own, forMs, first, until, second) => {
      const { session, expiresAt } = await acting(await person(own), { ...(forMs === undefined ? {} : { forMs }), lifeMs: 24 * HOUR })
      const one = await handOn({
        session,
        ...(first === undefined ? {} : { forMs: first }),
        ...(until === undefined ? {} : { until: start + until }),
      })
      assert.ok(one.session.expiresAt <= Math.min(expiresAt, start + (forMs ?? Infinity), start + (first ?? Infinity), start + (until ?? Infinity)))
      const below = await live(helper, one.chain, one.session.id)
      const two = await handOn({ session: below, to: 'boris/scout', ...(second === undefined ? {} : { forMs: second }) })
      assert.ok(two.session.expiresAt <= Math.min(one.session.expiresAt, start + (second ?? Infinity)))
      assert.deepEqual(two.chain.slice(0, -1), one.chain)
      assert.equal(two.delegation.parentId, one.delegation.id)
    }),
    { numRuns: 25 },
  )
})

test('revoking a delegation ends what was handed on under it and every session on any of that, cuts them, and records each', async () => {
  const { session, delegation } = await acting(await person())
  const one = await handOn({ session })
  const below = await live(helper, one.chain, one.session.id)
  const two = await handOn({ session: below, to: 'boris/scout' })
  const connections = [session.connect('mcp'), below.connect('postgres')]
  await sessions.endDelegations([delegation.id], 'revoked', { id: boris.id, name: 'boris' })
  assert.ok(connections.every(({ signal }) => signal.aborted))
  assert.deepEqual(new Set(ended().map((data) => data.delegation)), new Set([delegation.id, one.delegation.id, two.delegation.id]))
  assert.equal(ended().find((data) => data.delegation === delegation.id)?.reason, 'revoked')
  assert.equal(ended().find((data) => data.delegation === two.delegation.id)?.with, delegation.id, 'with what it rests on')
  const rows = await store.db.selectFrom('sessions').select(['id', 'ended_at']).where('id', 'in', [session.id, below.id, two.session.id]).execute()
  assert.ok(rows.every((row) => row.ended_at !== null))
  await assert.rejects(handOn({ session }), { code: 'session_ended' })
})

test("the end of a person's session ends what is bound to it and everything below, and leaves what is free", async () => {
  const me = await person()
  const bound = await acting(me, { bound: true })
  const one = await handOn({ session: bound.session })
  const free = await delegate({ store, audit, clock }, { agreed: me, from: boris, to: helper, how: 'consent' })
  await sessions.end(me.id, 'logout')
  const stand = await listDelegations(store.db, { fromId: boris.id, now: clock.now() })
  assert.deepEqual(
    stand.map(({ id }) => id),
    [free.id],
  )
  const rows = await store.db.selectFrom('sessions').select('ended_at').where('id', 'in', [bound.session.id, one.session.id]).execute()
  assert.ok(
    rows.every((row) => row.ended_at !== null),
    'two steps down as well',
  )
})

test('the sweep ends on record what nobody ended: time is over, somebody is deleted, its session has run out', async () => {
  const short = await person(30 * MINUTE)
  const over = await delegate({ store, audit, clock }, { agreed: short, from: boris, to: bot, how: 'run', forMs: MINUTE })
  const bound = await delegate({ store, audit, clock }, { agreed: short, from: boris, to: bot, how: 'run', bound: true })
  const toGone = await delegate({ store, audit, clock }, { agreed: short, from: boris, to: helper, how: 'consent' })
  const stays = await delegate({ store, audit, clock }, { agreed: short, from: boris, to: bot, how: 'consent' })
  await sweepDelegations({ store, sessions, clock })
  assert.deepEqual(ended(), [])
  clock.advance(31 * MINUTE)
  await store.reduce((trx) => setIdentityState(trx, helper.id, 'deleted', clock.now()))
  await sweepDelegations({ store, sessions, clock })
  assert.deepEqual(
    new Map(ended().map((data) => [data.delegation, data.reason])),
    new Map([
      [over.id, 'expired'],
      [bound.id, 'unbound'],
      [toGone.id, 'deleted'],
    ]),
  )
  await sweepDelegations({ store, sessions, clock })
  assert.equal(ended().length, 3, 'once')
  assert.deepEqual(
    (await listDelegations(store.db, { fromId: boris.id, now: clock.now() })).map(({ id }) => id),
    [stays.id],
  )
})

test('nothing is given under a session or a delegation that is over, and nothing with limits that cannot be read', async () => {
  const me = await person()
  const { delegation } = await acting(me)
  await sessions.endDelegations([delegation.id], 'revoked')
  const ask = { fromId: bot.id, toId: helper.id, now: clock.now() }
  await assert.rejects(
    store.write((trx) => makeDelegation(trx, { ...ask, parentId: delegation.id })),
    { code: 'session_ended' },
  )
  await sessions.end(me.id, 'logout')
  await assert.rejects(
    store.write((trx) => makeDelegation(trx, { ...ask, sessionId: me.id })),
    { code: 'session_ended' },
  )
  await assert.rejects(
    store.write((trx) => makeDelegation(trx, { ...ask, limits: { resources: ['files'] } })),
    { code: 'invalid_document' },
  )
})

test('rule 7: who hands on to whom he may not is refused, and the record says why where the answer does not', async () => {
  const olga = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'olga', source: 'document', now: start }))
  await store.write((trx) => createIdentity(trx, { kind: 'agent', name: 'olga-ai', ownerId: olga.id, source: 'document', now: start }))
  const me = await person()
  const { session } = await acting(me)
  const why = async (ask: Parameters<typeof handOn>[0]) => {
    await assert.rejects(handOn(ask), { code: 'delegation_refused' })
    const { type, data } = records.at(-1)!
    assert.equal(type, 'delegation.refused')
    return (data as { why: string }).why
  }
  assert.equal(await why({ session: me }), 'not an agent')
  assert.equal(await why({ session, to: 'olga-ai' }), 'of another owner, and its document does not name who asks')
  assert.equal(await why({ session, to: 'olga' }), 'not an agent')
  assert.equal(await why({ session, to: 'nobody' }), 'unknown')
  assert.equal(await why({ session, to: 'olga/made-up' }), 'unknown')
  assert.equal(await why({ session, to: 'bot' }), 'it is in the chain already')
  const messages = await Promise.all(
    ['olga-ai', 'nobody'].map((to) => handOn({ session, to }).catch((error: Error) => error.message.replace(to, 'X'))),
  )
  assert.equal(messages[0], messages[1], 'who exists is not told to whom it is none of his business')
  await store.reduce((trx) => setIdentityState(trx, helper.id, 'disabled', clock.now()))
  assert.equal(await why({ session }), 'disabled')
})

test('an agent of another owner is handed on to where its own document names who asks', async () => {
  const olga = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'olga', source: 'document', now: start }))
  const theirs = await store.write((trx) => createIdentity(trx, { kind: 'agent', name: 'olga-ai', ownerId: olga.id, source: 'document', now: start }))
  const spec = JSON.stringify({ owner: 'olga', roles: [], may_act: ['bot'] })
  const row = { id: theirs.id, kind: 'agent', name: 'olga-ai', labels: '{}', spec, digest: 'x', owner: null, applied_by: olga.id, updated_at: start }
  await store.write((trx) => trx.insertInto('documents').values(row).execute())
  const { session } = await acting(await person())
  assert.equal((await handOn({ session, to: 'olga-ai' })).identity.id, theirs.id)
})

test('a chain ends at four links', async () => {
  const { session } = await acting(await person())
  const one = await handOn({ session })
  const two = await handOn({ session: await live(helper, one.chain, one.session.id), to: 'boris/scout' })
  const scout = await findIdentity(store.db, { name: 'boris/scout' })
  assert.equal(scout?.roles, 'inherit')
  const last = await live(scout, two.chain, two.session.id)
  await assert.rejects(handOn({ session: last, to: 'boris/fifth' }), { code: 'delegation_refused', message: /at most 4 links/ })
})

test('rule 6: a lock on a session falls on whatever was handed on below it, three steps down', async () => {
  const me = await person()
  const { session } = await acting(me)
  const one = await handOn({ session })
  const below = await live(helper, one.chain, one.session.id)
  const lock = { id: 'lck_1', target_kind: 'session', target: me.id, expires_at: null, lifted_at: null } as unknown as LockTable
  assert.ok(lockFor([lock], { now: clock.now(), ...sessionsOf(below), links: [] }))
  assert.equal(lockFor([{ ...lock, target: 'ses_other' }], { now: clock.now(), ...sessionsOf(below), links: [] }), undefined)
})

test('rule 6: runs of runs: a lock on the first session falls on each of them, its end ends each, and none begins deeper than that is followed', async () => {
  const chain = [{ identity: bot.id }]
  const begin = (parentId?: string) =>
    sessions.start({ identityId: bot.id, chain, how: 'run', lifeMs: HOUR, ...(parentId === undefined ? {} : { parentId }) })
  const first = await begin()
  const below: string[] = []
  const deeper = async () => below.push((await begin(below.at(-1) ?? first.id)).id)
  for (let step = 0; step < 6; step++) await deeper()
  await assert.rejects(deeper(), { code: 'issue_refused' })
  const lock = { id: 'lck_1', target_kind: 'session', target: first.id, expires_at: null, lifted_at: null } as unknown as LockTable
  for (const id of below)
    assert.ok(lockFor([lock], { now: clock.now(), ...sessionsOf(await live(bot, chain, id)), links: [] }), `step ${below.indexOf(id) + 1}`)
  await sessions.end(first.id, 'logout')
  for (const id of below) await assert.rejects(live(bot, chain, id), { code: 'session_ended' })
})

test("a client's first use never finds what was given for one run, or bound to a session; and what is revoked is never used again", async () => {
  const me = await person()
  const used = () =>
    actAsClient(
      { store, audit, clock, sessions, see: async () => {} },
      { agreed: me, from: boris, to: bot, start: { how: 'client', lifeMs: HOUR } },
      async ({ delegation }) => delegation.id,
    )
  const first = await used()
  assert.equal(await used(), first, 'one delegation, whoever asks and how often')
  await sessions.endDelegations([first], 'revoked')
  await delegate({ store, audit, clock }, { agreed: me, from: boris, to: bot, how: 'run', limits: { effects: ['read'] } })
  await delegate({ store, audit, clock }, { agreed: me, from: boris, to: bot, how: 'client', bound: true })
  const before = (await listDelegations(store.db, { toId: bot.id, now: clock.now() })).map(({ id }) => id)
  const again = await used()
  assert.ok(again !== first && !before.includes(again))
})

test('the record of a delegation holds what it leaves and the words that were agreed to', async () => {
  const delegation = await delegate(
    { store, audit, clock },
    {
      agreed: await person(),
      from: boris,
      to: bot,
      how: 'consent',
      limits: { resources: ['mcp/files'], effects: ['read'] },
      forMs: 8 * HOUR,
      client: { name: 'Claude Code', host: 'localhost' },
    },
  )
  const words =
    'bot (Claude Code, which answers at localhost) may act on behalf of boris. It gets no more than this: Only mcp/files. Only to read. It holds for 8h. Everything it does is recorded under both names, and boris can revoke it at any time.'
  assert.equal(delegation.words, words)
  const { data } = records.find(({ type }) => type === 'delegation.made')!
  assert.deepEqual((data as { limits: unknown; words: string }).limits, { resources: ['mcp/files'], effects: ['read'] })
  assert.equal((data as { words: string }).words, words)
})

test('a client that writes the rest of the sentence into its name is quoted with it', () => {
  const first = (name: string) => consentWords({ from: 'boris', to: 'boris/x', limits: {}, client: { name, host: 'evil.example' } })[0]!
  for (const name of ['Claude Code', 'claude-code', 'https://claude.ai/oauth', 'boris/helper', 'v1.2', 'Überall 2'])
    assert.ok(first(name).startsWith(`boris/x (${name}, which`), first(name))
  for (const name of [
    'Claude, which answers at claude.ai) may read what boris shows it, and no more. (Claude',
    'Claude. It may only read',
    'Claude (checked by your company)',
    'Claude”, which answers at claude.ai) may read. (“',
    'Claude\nIt may only read',
    '  ',
    'Claude\u00a0Code',
  ])
    assert.match(first(name), /^boris\/x \(“[^“”]*”, which answers at evil\.example\) may act on behalf of boris\.$/, name)
})

test('consent without limits says so, and when it ends', () => {
  const words = consentWords({ from: 'boris', to: 'boris/cursor', limits: {}, bound: true, forMs: HOUR })
  assert.deepEqual(words.slice(0, 3), [
    'boris/cursor may act on behalf of boris.',
    'Nothing that boris may do is left out, but administering Chaperone; and it never gets more than boris has at that moment.',
    'It holds for 1h, and no longer than boris is signed in.',
  ])
})
