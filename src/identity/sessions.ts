import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Store } from '../store/store.ts'
import type { SessionTable } from '../store/tables.ts'
import { loadChain } from './delegations.ts'
import type { ChainLink, Connection, LiveSession, Principal, Sessions } from './types.ts'

export interface SessionsParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** The epoch has risen by a change made here: whoever caches rights must look again. Resolves when this node has. */
  readonly raised: (epoch: number) => Promise<void>
  /** Makes sure that the chain's identities are known, and throws when one of them may not act (disabled, ended, locked). */
  readonly mayAct: (session: LiveSession) => Promise<void>
  /** How many sessions and connections this process holds at most. */
  readonly limits?: { readonly sessions: number; readonly connectionsPerSession: number }
}

/** A session nobody used for this long is forgotten by the process; its row stays. */
const IDLE_FORGET_MS = 10 * 60_000

class OpenConnection implements Connection {
  readonly id: string
  readonly protocol: string
  readonly #controller = new AbortController()
  readonly #over: (connection: OpenConnection) => void
  /** set for bearer connections, which end with their own token */
  readonly until: number | undefined
  readonly #assertOpen: (connection: OpenConnection) => void

  constructor(
    id: string,
    protocol: string,
    until: number | undefined,
    assertOpen: (connection: OpenConnection) => void,
    over: (connection: OpenConnection) => void,
  ) {
    this.id = id
    this.#assertOpen = assertOpen
    this.protocol = protocol
    this.until = until
    this.#over = over
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  assertOpen(): void {
    if (this.#controller.signal.aborted) throw this.#controller.signal.reason
    this.#assertOpen(this)
  }

  cut(why: ChaperoneError): void {
    if (this.#controller.signal.aborted) return
    this.#over(this)
    this.#controller.abort(why)
  }

  closed(): void {
    this.#over(this)
  }
}

/** One run of one identity in this process: its proven deadline, and the connections that hang on it. */
class OpenSession implements LiveSession {
  readonly id: string
  principal: Principal
  readonly startedAt: number
  readonly how: string
  readonly client?: string
  readonly purpose?: string
  readonly issuerId?: string
  factorAt?: number
  provenUntil: number
  readonly longestUntil: number
  readonly connections = new Set<OpenConnection>()
  lastUsed: number
  #ended: ChaperoneError | undefined
  #disarm: (() => void) | undefined
  /** when the timer rings; no connection ends earlier */
  #rings = Number.POSITIVE_INFINITY
  readonly #clock: Clock
  readonly #limit: number

  constructor(row: SessionTable, principal: Principal, clock: Clock, limit: number) {
    this.id = row.id
    this.principal = principal
    this.startedAt = row.started_at
    this.how = row.how
    if (row.client !== null) this.client = row.client
    if (row.purpose !== null) this.purpose = row.purpose
    if (row.issuer_id !== null) this.issuerId = row.issuer_id
    if (row.factor_at !== null) this.factorAt = row.factor_at
    this.longestUntil = row.expires_at
    this.provenUntil = 0
    this.#clock = clock
    this.#limit = limit
    this.lastUsed = clock.now()
  }

  get open(): number {
    return this.connections.size
  }

  /** The holder showed a credential. Only a newer one, over mTLS, moves the deadline (design 3.2). */
  prove(principal: Principal): void {
    this.lastUsed = this.#clock.now()
    if (principal.proof !== 'mtls') return
    const until = Math.min(principal.notAfter, this.longestUntil)
    if (until <= this.provenUntil) return
    this.provenUntil = until
    this.principal = principal
    this.#arm()
  }

  #arm(): void {
    this.#disarm?.()
    this.#disarm = undefined
    this.#rings = Number.POSITIVE_INFINITY
    for (const connection of this.connections) this.#rings = Math.min(this.#rings, this.#deadline(connection))
    if (this.#rings < Number.POSITIVE_INFINITY) this.#disarm = this.#clock.at(this.#rings, () => this.#expire())
  }

  #deadline(connection: OpenConnection): number {
    return connection.until ?? this.provenUntil
  }

  #expire(): void {
    const now = this.#clock.now()
    for (const connection of [...this.connections]) {
      if (this.#deadline(connection) <= now) {
        connection.cut(
          new ChaperoneError('credential_expired', 'The credential ended and no newer one was proven.', {
            fix: 'Renew the credential and connect again.',
          }),
        )
      }
    }
    this.#arm()
  }

  assertLive(): void {
    if (this.#ended) throw this.#ended
    if (this.#clock.now() >= this.longestUntil)
      throw new ChaperoneError('session_ended', 'The session has reached its longest life.', { fix: 'Sign in or join again.' })
  }

  connect(protocol: string, options: { readonly until?: number } = {}): Connection {
    this.assertLive()
    if (this.connections.size >= this.#limit) throw new ChaperoneError('too_many', 'This session has too many open connections.')
    const until = options.until === undefined ? undefined : Math.min(options.until, this.longestUntil)
    if ((until ?? this.provenUntil) <= this.#clock.now()) throw new ChaperoneError('credential_expired', 'The credential is past its end.')
    const assertOpen = (open: OpenConnection) => {
      this.assertLive()
      if (this.#deadline(open) <= this.#clock.now()) this.#expire()
      if (open.signal.aborted) throw open.signal.reason
    }
    const connection = new OpenConnection(newId('con', this.#clock.now()), protocol, until, assertOpen, (over) => {
      this.connections.delete(over)
      this.lastUsed = this.#clock.now()
      if (this.connections.size === 0) this.#arm()
    })
    this.connections.add(connection)
    // Each bearer request is a connection: the timer is touched only for one that ends before the others.
    if (this.#deadline(connection) < this.#rings) this.#arm()
    return connection
  }

  end(why: ChaperoneError): void {
    this.#ended ??= why
    this.cutAll(why)
  }

  cutAll(why: ChaperoneError): void {
    for (const connection of [...this.connections]) connection.cut(why)
    this.#arm()
  }

  /** Whether this is the session that the credential speaks of. */
  belongsTo(principal: Principal): boolean {
    return this.principal.identityId === principal.identityId && sameChain(this.principal.chain, principal.chain)
  }
}

const sameChain = (a: readonly ChainLink[], b: readonly ChainLink[]) =>
  a.length === b.length && a.every((link, i) => link.identity === b[i]?.identity && link.delegation === b[i]?.delegation)

export function openSessions(parts: SessionsParts): Sessions {
  const { store, audit, clock, raised, mayAct } = parts
  const limits = parts.limits ?? { sessions: 50_000, connectionsPerSession: 256 }
  const live = new Map<string, OpenSession>()
  const loading = new Map<string, Promise<OpenSession>>()
  let closing: ReasonCode | undefined

  const ended = (reason: string) => new ChaperoneError('session_ended', 'The session is over.', { detail: reason, fix: 'Sign in or join again.' })

  async function load(principal: Principal): Promise<OpenSession> {
    const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', principal.sessionId).executeTakeFirst()
    if (!row) throw new ChaperoneError('credential_invalid', 'The credential names a session that does not exist.', { detail: principal.sessionId })
    if (row.ended_at !== null) throw ended(row.end_reason ?? 'ended')
    const chain = JSON.parse(row.chain) as ChainLink[]
    if (row.identity_id !== principal.identityId || !sameChain(chain, principal.chain)) {
      throw new ChaperoneError('credential_invalid', 'The credential does not belong to its session.', { detail: principal.sessionId })
    }
    if (live.size >= limits.sessions) forgetIdle()
    if (live.size >= limits.sessions) throw new ChaperoneError('too_many', 'Too many sessions are open on this node.')
    const session = new OpenSession(row, principal, clock, limits.connectionsPerSession)
    session.assertLive()
    live.set(session.id, session)
    // Whoever ended it after the row was read did not find it here to end. From now on they do, so one more look is enough.
    const now = await store.db.selectFrom('sessions').select(['ended_at', 'end_reason']).where('id', '=', row.id).executeTakeFirst()
    if (now && now.ended_at === null) return session
    live.delete(row.id)
    throw ended(now?.end_reason ?? 'ended')
  }

  function forgetIdle(): void {
    const before = clock.now() - IDLE_FORGET_MS
    for (const [id, session] of live) if (session.connections.size === 0 && session.lastUsed < before) live.delete(id)
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

  return {
    async open(principal) {
      if (closing) throw new ChaperoneError(closing, 'Chaperone is shutting down.')
      if (principal.notAfter <= clock.now())
        throw new ChaperoneError('credential_expired', 'The credential is past its end.', { fix: 'Renew it, or sign in again.' })
      const session = await known(principal)
      if (!session.belongsTo(principal)) throw new ChaperoneError('credential_invalid', 'The credential does not belong to its session.')
      session.assertLive()
      await mayAct(session)
      session.prove(principal)
      return session
    },

    async start(ask) {
      const now = clock.now()
      const id = newId('ses', now)
      const expiresAt = now + ask.lifeMs
      const chain = await loadChain(store.db, ask.chain)
      await audit.append({
        type: 'session.started',
        session: id,
        actor: chain.at(-1) ?? { id: ask.identityId, name: ask.identityId },
        ...(chain.length > 1 ? { chain } : {}),
        ...(ask.issuerId === undefined ? {} : { issuer: ask.issuerId }),
        ...(ask.purpose === undefined ? {} : { purpose: ask.purpose }),
        data: { how: ask.how, expiresAt, ...(ask.client === undefined ? {} : { client: ask.client }) },
      })
      await store.write(async (trx) => {
        if (ask.parentId !== undefined) {
          const parent = await trx.selectFrom('sessions').select('ended_at').where('id', '=', ask.parentId).executeTakeFirst()
          if (!parent || parent.ended_at !== null) throw ended('the session it was made from is over')
        }
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
            parent_id: ask.parentId ?? null,
            newest_credential: null,
            previous_credential: null,
            last_used_at: null,
          })
          .execute()
      })
      return { id, expiresAt }
    },

    async end(sessionId, reason) {
      const children = await store.db.selectFrom('sessions').select('id').where('parent_id', '=', sessionId).where('ended_at', 'is', null).execute()
      await audit.append({ type: 'session.ended', session: sessionId, data: { reason } })
      await Promise.all(children.map(({ id }) => audit.append({ type: 'session.ended', session: id, data: { reason, parent: sessionId } })))
      // What its clients run with ends with it: who signed out, or was thrown out, has no tool that is still signed in.
      const { result, epoch } = await store.reduce((trx) =>
        trx
          .updateTable('sessions')
          .set({ ended_at: clock.now(), end_reason: reason })
          .where((row) => row.or([row('id', '=', sessionId), row('parent_id', '=', sessionId)]))
          .where('ended_at', 'is', null)
          .returning('id')
          .execute(),
      )
      for (const { id } of result) live.get(id)?.end(ended(reason))
      await raised(epoch)
    },

    async factorGiven(sessionId) {
      const now = clock.now()
      await store.write((trx) => trx.updateTable('sessions').set({ factor_at: now }).where('id', '=', sessionId).execute())
      const session = live.get(sessionId)
      if (session) session.factorAt = now
    },

    review(why) {
      for (const session of live.values()) {
        const error = why(session)
        if (!error) continue
        // A session that is over stays over; a lock may be lifted again, so it only cuts what is open.
        if (error.code === 'session_ended') session.end(error)
        else session.cutAll(error)
      }
      forgetIdle()
    },

    list: () => [...live.values()],

    close(reason) {
      closing = reason
      for (const session of live.values()) session.cutAll(new ChaperoneError(reason, 'Chaperone is shutting down.'))
    },
  }
}

/** Of these sessions, the ones that another node ended: read after the epoch has risen. */
export async function endedAmong(store: Store, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const over = new Map<string, string>()
  for (let from = 0; from < ids.length; from += 500) {
    const rows = await store.db
      .selectFrom('sessions')
      .select(['id', 'end_reason'])
      .where('id', 'in', ids.slice(from, from + 500))
      .where('ended_at', 'is not', null)
      .execute()
    for (const row of rows) over.set(row.id, row.end_reason ?? 'ended')
  }
  return over
}
