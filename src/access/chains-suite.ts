import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { actFor, actInSession } from '../identity/delegation/act-for.ts'
import { sweepDelegations } from '../identity/delegation/delegations.ts'
import { exchange } from '../identity/delegation/exchange.ts'
import { createIdentity, type IdentityRecord, updateIdentity } from '../identity/directory.ts'
import { liftLock, locked, lockFor, makeLock, sessionsOf } from '../identity/locks.ts'
import { openSessions } from '../identity/sessions.ts'
import type { ChainLink, LiveSession, Sessions } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { decide } from '../policy/decide.ts'
import type { Limits } from '../policy/types.ts'
import { questionOf, toolVocabulary } from '../policy/vocabulary.fixture.ts'
import { openStore } from '../store/open.ts'
import { keepState, type StateKeeper } from './state.ts'

export type Place = () => Promise<{ readonly url: string } | { readonly dataDir: string }>

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const start = Date.UTC(2026, 10, 23, 12)

const ROLES: Readonly<Record<string, object>> = {
  reader: { allow: [{ tool: 'any', tools: 'any', can: ['read'] }] },
  writer: { allow: [{ tool: 'any', tools: 'any' }] },
  careful: { allow: [{ tool: 'files', tools: 'any' }] },
}
/** What may be asked for: a tool of a server, with an effect. Which roles give it is written out here, and not taken from the policy. */
const RIGHTS = (['files', 'data'] as const).flatMap((on) => (['read', 'write'] as const).map((effect) => ({ on, effect })))
type Right = (typeof RIGHTS)[number]
const byRole = (role: string, { on, effect }: Right) =>
  role === 'writer' || (role === 'reader' && effect === 'read') || (role === 'careful' && on === 'files')
const byLimits = ({ roles, resources, effects }: Limits, own: readonly string[], right: Right) =>
  own.some((role) => (roles?.includes(role) ?? true) && byRole(role, right)) &&
  (resources?.includes(`tool/${right.on}`) ?? true) &&
  (effects?.includes(right.effect) ?? true)

/** One node, as `server/` puts it together: nobody acts whose chain has a link that is gone, or under a lock. */
async function openNode(
  place: Awaited<ReturnType<Place>>,
  clock: ReturnType<typeof manualClock>,
  audit: { append(draft: Draft): Promise<{ id: string; seq: number }> },
) {
  const store = await openStore(place, { clock })
  const state: StateKeeper = await keepState(store.db, [toolVocabulary], await store.epoch())
  const refreshed = async () => void (await state.refresh(await store.epoch()))
  const assertMay = async (chain: readonly ChainLink[], of: Partial<ReturnType<typeof sessionsOf>> = {}) => {
    await refreshed()
    await state.see(chain)
    const now = clock.now()
    const lock = lockFor(state.current().locks, { now, ...of, links: state.current().links(chain, now) })
    if (lock) throw locked(lock)
  }
  const sessions: Sessions = openSessions({
    ...{ store, audit, clock },
    raised: refreshed,
    mayAct: (session) => assertMay(session.principal.chain, sessionsOf(session)),
    mayStart: (chain) => assertMay(chain),
  })
  return { store, state, sessions, audit, clock, see: (chain: readonly ChainLink[]) => state.see(chain) }
}

/** People, agents and roles; delegations of any kind. */
async function openHouse(t: TestContext, place: Place) {
  const clock = manualClock(start)
  const where = await place()
  const records: Draft[] = []
  const audit = { append: async (draft: Draft) => ({ id: newId('rec', clock.now()), seq: records.push(draft) }) }
  const nodes = [await openNode(where, clock, audit), await openNode(where, clock, audit)] as const
  t.after(() => Promise.all(nodes.map(({ store }) => store.close())))
  const [{ store }] = nodes
  const rows = { labels: '{}', digest: '', owner: null, applied_by: null, updated_at: start }
  for (const [name, spec] of Object.entries(ROLES))
    await store.db
      .insertInto('documents')
      .values({ id: newId('res', start), kind: 'role', name, spec: JSON.stringify(spec), ...rows })
      .execute()
  const boris = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'boris', roles: ['writer'], source: 'document', now: start }))
  const agents: IdentityRecord[] = []
  for (const name of ['bot', 'helper', 'scout'])
    agents.push(
      await store.write((trx) => createIdentity(trx, { kind: 'agent', name, ownerId: boris.id, roles: ['writer'], source: 'document', now: start })),
    )
  await store.reduce(async () => {})

  const live = (at: (typeof nodes)[number], identity: IdentityRecord, chain: readonly ChainLink[], sessionId: string): Promise<LiveSession> =>
    at.sessions.open({
      ...{ identityId: identity.id, kind: identity.kind, name: identity.name, credentialId: newId('crd', clock.now()), sessionId, chain },
      ...{ notAfter: clock.now() + 24 * HOUR, proof: 'bearer' },
    })
  const person = async (at: (typeof nodes)[number], lifeMs = 8 * HOUR) => {
    const chain = [{ identity: boris.id }]
    const { id } = await at.sessions.start({ identityId: boris.id, chain, how: 'login', lifeMs })
    return live(at, boris, chain, id)
  }
  const run = (at: (typeof nodes)[number], from: LiveSession, to: IdentityRecord, limits: Limits = {}, forMs = 4 * HOUR) =>
    actInSession(
      at,
      { agreed: from, from: boris, to, how: 'run', limits, forMs, bound: true, start: { how: 'run', parentId: from.id, lifeMs: forMs } },
      async (made) => made,
    )
  const handOn = (at: (typeof nodes)[number], session: LiveSession, to: IdentityRecord, limits: Limits = {}) =>
    exchange(at, { session, to: to.name, limits }, async (made) => made)
  return { clock, nodes, store, records, boris, agents, live, person, run, handOn }
}

const refused = (error: unknown) => {
  if (!(error instanceof ChaperoneError) || error.code === 'store_unavailable' || error.code === 'internal') throw error
  return undefined
}

/** What stands and rests on something that does not. */
async function orphans({ store, clock }: Pick<Awaited<ReturnType<typeof openHouse>>, 'store' | 'clock'>): Promise<readonly string[]> {
  const sessions = await store.db.selectFrom('sessions').selectAll().execute()
  const given = new Map((await store.db.selectFrom('delegations').selectAll().execute()).map((row) => [row.id, row]))
  const byId = new Map(sessions.map((row) => [row.id, row]))
  const over = (row: { readonly ended_at: number | null; readonly expires_at: number | null } | undefined) =>
    !row || row.ended_at !== null || (row.expires_at !== null && row.expires_at <= clock.now())
  const wrong: string[] = []
  for (const row of sessions) {
    if (over(row)) continue
    if (row.parent_id !== null && over(byId.get(row.parent_id))) wrong.push(`session ${row.id} outlives its parent`)
    for (const { delegation } of JSON.parse(row.chain) as ChainLink[])
      if (delegation !== undefined && over(given.get(delegation))) wrong.push(`session ${row.id} outlives a delegation`)
  }
  for (const row of given.values()) {
    if (over(row)) continue
    if (row.session_id !== null && byId.get(row.session_id)?.ended_at !== null) wrong.push(`delegation ${row.id} outlives its session`)
    if (row.parent_id !== null && given.get(row.parent_id)?.ended_at !== null) wrong.push(`delegation ${row.id} outlives the one above`)
  }
  return wrong
}

export function chainsSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`chains over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 7: whatever is begun while what it rests on ends, on two nodes at once, does not survive it', async (t) => {
      const house = await openHouse(t, place)
      const { nodes, agents, live, person, run, handOn, boris } = house
      const [one, two] = nodes
      const [bot, helper] = agents as [IdentityRecord, IdentityRecord]
      const fates = { survived: 0, refused: 0 }
      for (let round = 0; round < 24; round++) {
        const me = await person(one)
        const made = await run(one, me, bot)
        const acting = await live(two, bot, made.chain, made.session.id)
        const child = [
          () => handOn(two, acting, helper),
          () => two.sessions.start({ identityId: bot.id, chain: made.chain, how: 'run', parentId: made.session.id, lifeMs: HOUR }),
          async () => {
            const first = await handOn(two, acting, helper)
            return handOn(two, await live(two, helper, first.chain, first.session.id), agents[2]!)
          },
          () => two.sessions.renew(acting, acting.principal.credentialId),
        ][round % 4]!()
        const end = [
          () => one.sessions.endDelegations([made.delegation.id], 'revoked', boris),
          () => one.sessions.end(made.session.id, 'killed', boris),
          () => one.sessions.end(me.id, 'logout'),
        ][round % 3]!
        const [begun] = await Promise.all([child.then(() => 'begun').catch(refused), end()])
        fates[begun ? 'survived' : 'refused'] += 1
        assert.deepEqual(await orphans(house), [], `round ${round}`)
        await assert.rejects(live(two, bot, made.chain, made.session.id), { code: 'session_ended' })
      }
      t.diagnostic(`of ${24} that began meanwhile ${fates.refused} were refused, and ${fates.survived} ended at once`)
    })

    test('rule 7: no sequence of consents, runs, exchanges, ends, locks and changes widens a chain or lets it outlive its links', async (t) => {
      const effects = fc.constantFrom<Limits>({}, { effects: ['read'] }, { resources: ['tool/files'] }, { roles: ['reader'] }, { resources: [] })
      const pick = fc.nat(1000)
      const step = fc.oneof(
        fc.record({ op: fc.constant('sign in' as const), ms: fc.integer({ min: 5, max: 600 }) }),
        fc.record({
          op: fc.constantFrom('run' as const, 'consent' as const),
          at: pick,
          to: pick,
          limits: effects,
          ms: fc.integer({ min: 1, max: 300 }),
        }),
        fc.record({ op: fc.constant('exchange' as const), at: pick, to: pick, limits: effects }),
        fc.record({ op: fc.constant('exchange' as const), at: pick, to: pick, limits: effects }),
        fc.record({ op: fc.constantFrom('revoke' as const, 'end' as const, 'renew' as const, 'lock' as const, 'lift' as const), at: pick }),
        fc.record({ op: fc.constant('roles' as const), to: pick, roles: fc.subarray(Object.keys(ROLES)) }),
        fc.record({ op: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 90 }) }),
        fc.record({ op: fc.constantFrom('sweep' as const, 'restart' as const) }),
      )
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 14 }), async (steps) => {
          const house = await openHouse(t, place)
          const { nodes, clock, store, boris, agents, live } = house
          let at = nodes[0]
          interface Known {
            readonly identity: IdentityRecord
            readonly chain: readonly ChainLink[]
            readonly id: string
            readonly limits: readonly Limits[]
            readonly from?: Known
          }
          const known: Known[] = []
          const given: { readonly id: string; over?: true }[] = []
          const locks: string[] = []
          const roles = new Map([boris, ...agents].map((one) => [one.id, ['writer']]))
          const of = <T>(list: readonly T[], i: number): T | undefined => list[i % Math.max(1, list.length)]
          const open = async (one: Known) => live(at, one.identity, one.chain, one.id).catch(refused)
          for (const one of steps) {
            if (one.op === 'sign in') {
              const me = await house.person(at, one.ms * MINUTE)
              known.push({ identity: boris, chain: me.principal.chain, id: me.id, limits: [{}] })
            } else if (one.op === 'run' || one.op === 'consent') {
              const from = of(
                known.filter(({ identity }) => identity.id === boris.id),
                one.at,
              )
              const session = from && (await open(from))
              const to = of(agents, one.to)!
              if (!from || !session) continue
              const made =
                one.op === 'run'
                  ? await house.run(at, session, to, one.limits, one.ms * MINUTE).catch(refused)
                  : await actFor(
                      at,
                      { agreed: session, from: boris, to, how: 'consent', limits: one.limits, forMs: one.ms * MINUTE },
                      async (acting) => ({
                        ...acting,
                        session: await at.sessions.start({ identityId: to.id, chain: acting.chain, how: 'oauth', lifeMs: 8 * HOUR }),
                      }),
                    ).catch(refused)
              if (!made) continue
              given.push({ id: made.delegation.id })
              known.push({
                identity: to,
                chain: made.chain,
                id: made.session.id,
                limits: [...from.limits, one.limits],
                ...(one.op === 'run' ? { from } : {}),
              })
            } else if (one.op === 'exchange') {
              const from = of(
                known.filter(({ identity }) => identity.id !== boris.id),
                one.at,
              )
              const session = from && (await open(from))
              const to = of(agents, one.to)!
              const made = session && (await house.handOn(at, session, to, one.limits).catch(refused))
              if (!from || !made) continue
              given.push({ id: made.delegation.id })
              known.push({ identity: to, chain: made.chain, id: made.session.id, limits: [...from.limits, one.limits], from })
            } else if (one.op === 'revoke') {
              const it = of(given, one.at)
              if (it) await at.sessions.endDelegations([it.id], 'revoked')
              if (it) it.over = true
            } else if (one.op === 'end') {
              const it = of(known, one.at)
              if (it) await at.sessions.end(it.id, 'killed')
            } else if (one.op === 'renew') {
              const session = known.length > 0 ? await open(of(known, one.at)!) : undefined
              if (session) await at.sessions.renew(session, session.principal.credentialId).catch(refused)
            } else if (one.op === 'lock') {
              const it = of(known, one.at)
              if (it)
                locks.push(
                  (await store.reduce((trx) => makeLock(trx, { kind: 'session', target: it.id, reason: 'x', madeBy: boris.id, now: clock.now() })))
                    .result.id,
                )
            } else if (one.op === 'lift') {
              const it = locks.pop()
              if (it) await store.reduce((trx) => liftLock(trx, it, boris.id, clock.now()))
            } else if (one.op === 'roles') {
              const it = of([boris, ...agents], one.to)!
              roles.set(it.id, one.roles)
              await store.reduce((trx) => updateIdentity(trx, it.id, { roles: one.roles, now: clock.now() }))
            } else if (one.op === 'wait') clock.advance(one.ms * MINUTE)
            else if (one.op === 'sweep') await sweepDelegations(at)
            else at = at === nodes[0] ? nodes[1] : nodes[0]

            const rows = new Map((await store.db.selectFrom('sessions').selectAll().execute()).map((row) => [row.id, row]))
            for (const it of known) {
              const session = await open(it)
              if (!session) continue
              for (const { delegation } of it.chain)
                assert.ok(!given.some(({ id, over }) => over && id === delegation), 'acts under what was revoked')
              for (let above = it.from; above; above = above.from) {
                assert.equal(rows.get(above.id)?.ended_at, null, 'outlives what it was begun in')
                assert.ok(rows.get(it.id)!.expires_at <= rows.get(above.id)!.expires_at, 'is longer than what it was begun in')
              }
              const links = at.state.current().links(it.chain, clock.now())
              for (const right of RIGHTS) {
                const { verdict } = decide(at.state.current().policy, questionOf(links, { on: right.on, tool: 'x', effects: [right.effect] }))
                const may = it.chain.every(({ identity }, i) => byLimits(it.limits[i]!, roles.get(identity)!, right))
                assert.ok(verdict !== 'allow' || may, `${JSON.stringify(right)} of ${JSON.stringify(it.limits)}`)
                assert.equal(verdict === 'allow', may)
              }
            }
          }
          for (const { store } of nodes) await store.close()
        }),
        { numRuns: 15, endOnFailure: true },
      )
    })
  })
}
