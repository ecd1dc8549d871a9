import { Bag } from '../bag.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { SessionTable } from '../store/tables.ts'
import type { ChainLink, Connection, Factor, LiveSession, Principal } from './types.ts'

interface Opening {
  readonly id: string
  readonly protocol: string
  readonly since: number
  readonly credentialId: string
  /** set for bearer connections, which end with their own token */
  readonly until: number | undefined
}

class OpenConnection implements Connection {
  readonly id: string
  readonly protocol: string
  readonly since: number
  readonly credentialId: string
  readonly until: number | undefined
  readonly #controller = new AbortController()
  #goodbyes: Set<(why: ChaperoneError) => void> | undefined
  /** set as soon as nothing may pass any more */
  #why: ChaperoneError | undefined
  readonly #over: (connection: OpenConnection) => void
  readonly #assertOpen: (connection: OpenConnection) => void

  constructor(opening: Opening, assertOpen: (connection: OpenConnection) => void, over: (connection: OpenConnection) => void) {
    this.id = opening.id
    this.protocol = opening.protocol
    this.since = opening.since
    this.credentialId = opening.credentialId
    this.until = opening.until
    this.#assertOpen = assertOpen
    this.#over = over
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  onCut(say: (why: ChaperoneError) => void): () => void {
    this.#goodbyes ??= new Set()
    const goodbyes = this.#goodbyes.add(say)
    return () => goodbyes.delete(say)
  }

  assertOpen(): void {
    if (this.#why) throw this.#why
    this.#assertOpen(this)
  }

  /** The first half of a cut: nothing passes from now on, and the client is told. */
  sayGoodbye(why: ChaperoneError): void {
    if (this.#why) return
    this.#why = why
    for (const say of this.#goodbyes ?? []) say(why)
  }

  cut(why: ChaperoneError): void {
    if (this.#controller.signal.aborted) return
    this.sayGoodbye(why)
    this.#over(this)
    this.#controller.abort(this.#why)
  }

  closed(): void {
    this.#over(this)
  }
}

/** One run of one identity in this process: its proven deadline, and the connections that hang on it. */
export class OpenSession implements LiveSession {
  readonly id: string
  principal: Principal
  readonly startedAt: number
  readonly how: string
  readonly client?: string
  readonly purpose?: string
  readonly issuerId?: string
  readonly parentId?: string
  readonly ancestors?: readonly string[]
  factorAt?: number
  factorBy?: Factor
  provenUntil: number
  readonly longestUntil: number
  readonly connections = new Bag<OpenConnection>()
  /** when anything last happened here: a session of long ago is forgotten by the process */
  lastSeen: number
  /** when something was last asked for, on this node or before it was loaded */
  lastUsed: number
  /** what the row says of that */
  usedOnRow: number
  /** the newest credential that is known to have reached its holder */
  confirmed: string
  #ended: ChaperoneError | undefined
  /** why there is no proof now, though there was one */
  #disproven: ChaperoneError | undefined
  #disarm: (() => void) | undefined
  /** when the timer rings; no connection ends earlier */
  #rings = Number.POSITIVE_INFINITY
  readonly #clock: Clock
  readonly #limit: number

  constructor(row: SessionTable, principal: Principal, clock: Clock, limit: number, ancestors: readonly string[] = []) {
    this.id = row.id
    this.principal = principal
    this.startedAt = row.started_at
    this.how = row.how
    if (row.client !== null) this.client = row.client
    if (row.purpose !== null) this.purpose = row.purpose
    if (row.issuer_id !== null) this.issuerId = row.issuer_id
    if (row.parent_id !== null) this.parentId = row.parent_id
    if (ancestors.length > 0) this.ancestors = ancestors
    if (row.factor_at !== null) this.factorAt = row.factor_at
    if (row.factor_by !== null) this.factorBy = row.factor_by
    this.longestUntil = row.expires_at
    this.provenUntil = 0
    this.#clock = clock
    this.#limit = limit
    this.lastSeen = clock.now()
    this.lastUsed = this.usedOnRow = row.last_used_at ?? row.started_at
    // With nobody before it there is nothing that the newest one takes away.
    this.confirmed = row.previous_credential === null ? (row.newest_credential ?? principal.credentialId) : ''
  }

  get open(): number {
    return this.connections.size
  }

  touch(): void {
    this.lastUsed = this.lastSeen = this.#clock.now()
  }

  /** The holder showed a credential. Only a newer one, over mTLS, moves the deadline (design 3.2). */
  prove(principal: Principal): void {
    this.lastSeen = this.#clock.now()
    if (principal.proof !== 'mtls') return
    const until = Math.min(principal.notAfter, this.longestUntil)
    // At the end of a session two of them end at the same moment: the newer one is what it lives on.
    if (until < this.provenUntil || (until === this.provenUntil && principal.credentialId <= this.principal.credentialId)) return
    this.provenUntil = until
    this.#disproven = undefined
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

  connect(protocol: string, options: { readonly until?: number; readonly credentialId?: string } = {}): Connection {
    this.assertLive()
    if (this.connections.size >= this.#limit) throw new ChaperoneError('too_many', 'This session has too many open connections.')
    const now = this.#clock.now()
    const until = options.until === undefined ? undefined : Math.min(options.until, this.longestUntil)
    if (until === undefined && this.#disproven) throw this.#disproven
    if ((until ?? this.provenUntil) <= now) throw new ChaperoneError('credential_expired', 'The credential is past its end.')
    const assertOpen = (open: OpenConnection) => {
      this.assertLive()
      if (this.#deadline(open) <= this.#clock.now()) this.#expire()
      if (open.signal.aborted) throw open.signal.reason
    }
    const opening = { id: newId('con', now), protocol, since: now, credentialId: options.credentialId ?? this.principal.credentialId, until }
    const connection = new OpenConnection(opening, assertOpen, (over) => {
      this.connections.delete(place, over)
      this.lastSeen = this.#clock.now()
      if (this.connections.size === 0) this.#arm()
    })
    const place = this.connections.add(connection)
    // Each bearer request is a connection: the timer is touched only for one that ends before the others.
    if (this.#deadline(connection) < this.#rings) this.#arm()
    return connection
  }

  end(why: ChaperoneError): void {
    this.#ended ??= why
    this.cutAll(why)
  }

  cutAll(why: ChaperoneError): void {
    this.sayGoodbyes(why)
    for (const connection of [...this.connections]) connection.cut(why)
    this.#arm()
  }

  /** see {@link Connection.onCut}; `cutAll` or `end` follows at once */
  sayGoodbyes(why: ChaperoneError): void {
    for (const connection of this.connections) connection.sayGoodbye(why)
  }

  /**
   * Cuts what came in with a credential that may no longer be used. When it is the one whose proof the others live on, they
   * go as well: a deadline that a stolen certificate has moved is no deadline.
   */
  cutProvenWith(whyCredential: (credentialId: string) => ChaperoneError | undefined): void {
    const bearing = this.principal.proof === 'mtls' ? whyCredential(this.principal.credentialId) : undefined
    const hit = [...this.connections].flatMap((connection) => {
      const why = whyCredential(connection.credentialId) ?? (connection.until === undefined ? bearing : undefined)
      return why ? [{ connection, why }] : []
    })
    for (const { connection, why } of hit) connection.sayGoodbye(why)
    for (const { connection, why } of hit) connection.cut(why)
    // After the cuts: before them, whoever looks at his connection meanwhile would be told of an expiry and not of the lock.
    if (bearing) {
      this.provenUntil = 0
      this.#disproven = bearing
    }
    this.#arm()
  }

  /** Whether this is the session that the credential speaks of. */
  belongsTo(principal: Principal): boolean {
    return this.principal.identityId === principal.identityId && sameChain(this.principal.chain, principal.chain)
  }
}

export const sameChain = (a: readonly ChainLink[], b: readonly ChainLink[]): boolean =>
  a.length === b.length && a.every((link, i) => link.identity === b[i]?.identity && link.delegation === b[i]?.delegation)
