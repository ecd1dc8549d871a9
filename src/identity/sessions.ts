import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { newId } from '../ids.ts'
import type { SessionLimits } from '../policy/session-limits.ts'
import { pastDeadlocks } from '../store/deadlock.ts'
import type { Store, Write } from '../store/store.ts'
import type { SessionTable } from '../store/tables.ts'
import { type CopiedParts, lockCopied } from './copied.ts'
import { loadChain, soonestEnd } from './delegation/delegations.ts'
import { sessionOver } from './end-reasons.ts'
import { holdStanding, MOST_ABOVE } from './endings.ts'
import { confirmGeneration, takeGeneration, UNSHOWN } from './generations.ts'
import { tellUsed } from './last-used.ts'
import { OpenSession, sameChain } from './live-session.ts'
import { sessionEndings } from './session-endings.ts'
import { assertRoomFor, placesTaken } from './session-limits.ts'
import type { ChainLink, Principal, Sessions, StartSession } from './types.ts'

interface SessionsParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** The epoch has risen by a change made here: whoever caches rights must look again. Resolves when this node has. */
  readonly raised: (epoch: number) => Promise<void>
  /** Makes sure that the chain's identities are known, and throws when one of them may not act (disabled, ended, locked), or when this credential may not be shown. */
  readonly mayAct: (session: OpenSession, credentialId: string) => Promise<void>
  /** The same before there is a session. */
  readonly mayStart?: (chain: readonly ChainLink[]) => Promise<void>
  /** What the roles of this chain say about sessions. Throws when a link is gone. Absent: nothing. */
  readonly limitsOf?: (chain: readonly ChainLink[]) => SessionLimits
  /** The address of who is being answered, where the caller of `start` does not say it. */
  readonly peer?: () => string | undefined
  /** Told of a lock on a session of which somebody holds a copy, in the transaction that makes it. */
  readonly told?: NonNullable<CopiedParts['told']>
  /** How many sessions and connections this process holds at most. */
  readonly limits?: { readonly sessions: number; readonly connectionsPerSession: number }
}

/** A session nobody used for this long is forgotten by the process; its row stays. */
const IDLE_FORGET_MS = 10 * 60_000
/** How often the row of a session that is used is told so. */
const TELL_USE_MS = 30_000
/** Rows in one statement. */
const CHUNK = 500

export function openSessions(parts: SessionsParts): Sessions {
  const { store, audit, clock, raised, mayAct } = parts
  const limits = parts.limits ?? { sessions: 50_000, connectionsPerSession: 256 }
  const limitsOf = parts.limitsOf ?? ((): SessionLimits => ({}))
  const live = new Map<string, OpenSession>()
  const loading = new Map<string, Promise<OpenSession>>()
  const endings = sessionEndings({ store, audit, clock, raised, limitsOf }, live)
  let closing: ReasonCode | undefined

  async function load(principal: Principal): Promise<OpenSession> {
    const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', principal.sessionId).executeTakeFirst()
    if (!row) throw new ChaperoneError('credential_invalid', 'The credential names a session that does not exist.', { detail: principal.sessionId })
    if (row.ended_at !== null) throw sessionOver(row.end_reason)
    const chain = JSON.parse(row.chain) as ChainLink[]
    if (row.identity_id !== principal.identityId || !sameChain(chain, principal.chain)) {
      throw new ChaperoneError('credential_invalid', 'The credential does not belong to its session.', { detail: principal.sessionId })
    }
    if (live.size >= limits.sessions) forgetIdle()
    if (live.size >= limits.sessions) throw new ChaperoneError('too_many', 'Too many sessions are open on this node.')
    const session = new OpenSession(row, principal, clock, limits.connectionsPerSession, await ancestorsOf(store, row))
    session.assertLive()
    live.set(session.id, session)
    // Whoever ended it after the row was read did not find it here to end. From now on they do, so one more look is enough.
    const now = await store.db.selectFrom('sessions').select(['ended_at', 'end_reason']).where('id', '=', row.id).executeTakeFirst()
    if (now && now.ended_at === null) return session
    live.delete(row.id)
    throw sessionOver(now?.end_reason ?? null)
  }

  function forgetIdle(): void {
    const before = clock.now() - IDLE_FORGET_MS
    for (const [id, session] of live) {
      // What was used and is not written down yet is known nowhere else.
      if (session.connections.size === 0 && session.lastSeen < before && session.lastUsed <= session.usedOnRow) live.delete(id)
    }
  }

  const known = async (principal: Principal): Promise<OpenSession> => {
    const { sessionId } = principal
    const under = loading.get(sessionId)
    if (under) return under
    const here = live.get(sessionId)
    if (here) return here
    const mine = load(principal).finally(() => loading.delete(sessionId))
    loading.set(sessionId, mine)
    return mine
  }

  async function tellUse(): Promise<void> {
    const now = clock.now()
    const used = [...live.values()].filter((one) => one.lastUsed > one.usedOnRow && now - one.usedOnRow >= TELL_USE_MS)
    for (let from = 0; from < used.length; from += CHUNK) {
      const some = used.slice(from, from + CHUNK)
      // One time for all of them: it may be half a minute too late, never too early, so nobody is called idle who was not.
      await store.write((trx) =>
        trx
          .updateTable('sessions')
          .set({ last_used_at: now })
          .where(
            'id',
            'in',
            some.map(({ id }) => id),
          )
          .where((row) => row.or([row('last_used_at', 'is', null), row('last_used_at', '<', now)]))
          .execute(),
      )
      await tellUsed(store, some, now)
      for (const one of some) one.usedOnRow = now
    }
  }

  return {
    async open(principal) {
      if (closing) throw new ChaperoneError(closing, 'Chaperone is shutting down.')
      if (principal.notAfter <= clock.now())
        throw new ChaperoneError('credential_expired', 'The credential is past its end.', { fix: 'Renew it, or sign in again.' })
      const session = await known(principal)
      if (!session.belongsTo(principal)) throw new ChaperoneError('credential_invalid', 'The credential does not belong to its session.')
      session.assertLive()
      await mayAct(session, principal.credentialId)
      await endings.assertInTime(session)
      // Each page that is looked at is asked for by a person.
      if (principal.proof === 'browser') session.touch()
      // Ids sort by their time, so what is older than one that was confirmed is not the newest.
      if (principal.proof === 'mtls' && principal.credentialId > session.confirmed) {
        await confirmGeneration(store, session.id, principal.credentialId)
        session.confirmed = principal.credentialId
        session.assertLive()
      }
      session.prove(principal)
      return session
    },

    async start(asked) {
      const peer = asked.cameFrom ?? parts.peer?.()
      const ask = peer === undefined ? asked : { ...asked, cameFrom: peer }
      await parts.mayStart?.(ask.chain)
      const now = clock.now()
      const id = ask.counted?.id ?? newId('ses', now)
      const { concurrent, idleMs, longestMs } = limitsOf(ask.chain)
      // A chain lasts no longer than each of its links: so its connections are cut at that minute by their own timer.
      const expiresAt = Math.min(
        now + Math.min(ask.lifeMs, longestMs ?? ask.lifeMs),
        await soonestEnd(store.db, ask.chain),
        await endOf(store, ask.parentId),
      )
      if (expiresAt <= now) throw new ChaperoneError('session_ended', 'The delegation that this session would rest on has ended.')
      const chain = await loadChain(store.db, ask.chain)
      const self = chain.at(-1) ?? { id: ask.identityId, name: ask.identityId }
      const room = { identity: self, concurrent, idleMs, now, usedHere: (one: string) => live.get(one)?.lastUsed, instead: ask.instead ?? [] }
      if (ask.endOldest && concurrent !== undefined) {
        const taken = await placesTaken(store.db, room)
        const surplus = taken.slice(0, Math.max(0, taken.length - concurrent + 1))
        await endings.end({ sessions: surplus.map((one) => one.id) }, 'elsewhere')
      }
      if (ask.parentId !== undefined) await assertNotTooDeep(store, ask.parentId)
      // Asked before the record, so that no record tells of a session that never was; and once more where nobody can come between.
      await assertRoomFor(store.db, room)
      await audit.append({
        type: 'session.started',
        session: id,
        actor: self,
        ...(chain.length > 1 ? { chain } : {}),
        ...(ask.issuerId === undefined ? {} : { issuer: ask.issuerId }),
        ...(ask.purpose === undefined ? {} : { purpose: ask.purpose }),
        data: {
          how: ask.how,
          expiresAt,
          ...(ask.client === undefined ? {} : { client: ask.client }),
          ...(ask.joined === undefined ? {} : { joined: ask.joined }),
          ...(ask.cameFrom === undefined ? {} : { from: ask.cameFrom }),
        },
      })
      const begin = async (trx: Write) => {
        if (concurrent !== undefined) {
          // The row of the identity is the queue: without it two sign-ins on two nodes would each find the last place free.
          await trx
            .updateTable('identities')
            .set((row) => ({ updated_at: row.ref('updated_at') }))
            .where('id', '=', ask.identityId)
            .execute()
          await assertRoomFor(trx, room)
        }
        await ask.counted?.still(trx)
        await ask.still?.(trx)
        await insertSession(trx, ask, { id, now, expiresAt })
      }
      await pastDeadlocks(() => store.write(begin))
      return { id, expiresAt }
    },

    async mayStart(chain) {
      await parts.mayStart?.(chain)
    },

    async renew(session, credentialId) {
      session.assertLive()
      const next = newId('crd', clock.now())
      const generation = await takeGeneration(store, { sessionId: session.id, asked: credentialId, next, now: clock.now() })
      if (generation !== 'copy') return next
      const { error, epoch } = await lockCopied(parts, session, credentialId)
      live.get(session.id)?.cutAll(error)
      if (epoch !== undefined) await raised(epoch)
      throw error
    },

    async end(ids, reason, by) {
      await endings.end({ sessions: typeof ids === 'string' ? [ids] : ids }, reason, by)
    },

    async endDelegations(delegations, reason, by) {
      await endings.end({ delegations }, reason, by)
    },

    async factorGiven(sessionId, by) {
      const now = clock.now()
      await store.write((trx) => trx.updateTable('sessions').set({ factor_at: now, factor_by: by }).where('id', '=', sessionId).execute())
      const session = live.get(sessionId)
      if (session) Object.assign(session, { factorAt: now, factorBy: by })
    },

    review(why, whyCredential) {
      const over: { readonly session: OpenSession; readonly error: ChaperoneError }[] = []
      for (const session of live.values()) {
        const error = why(session)
        if (error) over.push({ session, error })
        else if (whyCredential) session.cutProvenWith(whyCredential)
      }
      // All goodbyes first: the last of a thousand clients does not wait until what the others ran is torn down.
      for (const { session, error } of over) session.sayGoodbyes(error)
      for (const { session, error } of over) {
        // A session that is over stays over; a lock may be lifted again, so it only cuts what is open.
        if (error.code === 'session_ended') session.end(error)
        else session.cutAll(error)
      }
      forgetIdle()
    },

    list: () => [...live.values()],
    connections: (sessionId) => [...(live.get(sessionId)?.connections ?? [])].sort((a, b) => (a.id < b.id ? -1 : 1)),

    async sweep() {
      await tellUse()
      await endings.sweep()
    },

    close(reason) {
      closing = reason
      for (const session of live.values()) session.cutAll(new ChaperoneError(reason, 'Chaperone is shutting down.'))
    },
  }
}

/** ms since 1970: a session lasts no longer than the one that it was made from. */
async function endOf({ db }: Store, parentId: string | undefined): Promise<number> {
  if (parentId === undefined) return Number.POSITIVE_INFINITY
  const parent = await db.selectFrom('sessions').select('expires_at').where('id', '=', parentId).executeTakeFirst()
  return parent?.expires_at ?? Number.POSITIVE_INFINITY
}

type Above = Pick<SessionTable, 'parent_id' | 'given_in'>

/**
 * A lock on a session stops what came from it, however far down it was handed on, and what was agreed to in it. Rows of ended sessions
 * stay, so the way up does.
 */
async function ancestorsOf(store: Store, row: Above): Promise<readonly string[]> {
  const parents = await parentsOf(store, row.parent_id)
  const given = [row, ...parents.map((one) => one.row)].flatMap((one) => (one?.given_in ? [one.given_in] : []))
  const beyond = await Promise.all(given.map(async (id) => [id, ...(await parentsOf(store, id)).slice(1).map((one) => one.id)]))
  return [...new Set([...parents.slice(1).map((one) => one.id), ...beyond.flat()])]
}

/** This one, and all above it. */
async function parentsOf({ db }: Store, parentId: string | null): Promise<readonly { readonly id: string; readonly row: Above | undefined }[]> {
  const above: { readonly id: string; readonly row: Above | undefined }[] = []
  for (let id = parentId; id !== null && above.length <= MOST_ABOVE; ) {
    const row = await db.selectFrom('sessions').select(['parent_id', 'given_in']).where('id', '=', id).executeTakeFirst()
    above.push({ id, row })
    id = row?.parent_id ?? null
  }
  return above
}

/** Below the deepest one no lock on a session above would be seen, and none would end with it. */
async function assertNotTooDeep(store: Store, parentId: string): Promise<void> {
  if ((await parentsOf(store, parentId)).length <= MOST_ABOVE) return
  throw new ChaperoneError('issue_refused', `A session is at most ${MOST_ABOVE} steps below the one that it all began with.`, {
    fix: 'Begin it from a session further up.',
  })
}

async function insertSession(trx: Write, ask: StartSession, { id, now, expiresAt }: { id: string; now: number; expiresAt: number }): Promise<void> {
  const delegations = ask.chain.flatMap(({ delegation }) => delegation ?? [])
  if (!(await holdStanding(trx, { ...(ask.parentId === undefined ? {} : { sessions: [ask.parentId] }), delegations }))) throw sessionOver('unbound')
  await trx
    .insertInto('sessions')
    .values({
      id,
      identity_id: ask.identityId,
      chain: JSON.stringify(ask.chain),
      how: ask.how,
      client: ask.client ?? null,
      purpose: ask.purpose ?? null,
      issuer_id: ask.issuerId ?? null,
      started_at: now,
      expires_at: expiresAt,
      ended_at: null,
      end_reason: null,
      factor_at: ask.factorGiven ? now : null,
      factor_by: ask.factorGiven === true ? 'totp' : ask.factorGiven || null,
      parent_id: ask.parentId ?? null,
      newest_credential: ask.counted?.credential ?? null,
      previous_credential: ask.counted ? UNSHOWN : null,
      last_used_at: null,
      joined: ask.joined ? JSON.stringify({ ...ask.joined, ...(ask.certificates ? { certificates: ask.certificates } : {}) }) : null,
      came_from: ask.cameFrom ?? null,
      given_in: ask.givenIn ?? null,
    })
    .execute()
  // From now on the delegation ends with the session that was made on it.
  if (ask.rests !== undefined) await trx.updateTable('delegations').set({ session_id: id }).where('id', '=', ask.rests).execute()
}
