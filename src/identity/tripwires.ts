import type { AuditLog, Envelope } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import type { Store, Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { activeLocks, type MakeLock, makeLock } from './locks.ts'
import { causeOf, TRIPPING, type Tripwire, Windows } from './tripwire.ts'

export interface TripwiresParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append' | 'watch'>
  readonly clock: Clock
  /** Those that are applied now. */
  readonly tripwires: () => readonly Tripwire[]
  /** Whether this identity administers Chaperone: then only its session is locked, or a flood of refusals would lock out who could mend it. */
  readonly administers: (identityId: string) => boolean
  /** Whether an agent of this identity administers Chaperone: a lock on an owner stops his agents, that one too. */
  readonly agentsAdminister: (identityId: string) => Promise<boolean>
  readonly ownerOf: (identityId: string) => { readonly id: string; readonly name: string } | undefined
  /** The epoch has risen by a change made here. */
  readonly raised: (epoch: number) => Promise<void>
  /** Told inside the transaction that makes a lock. `name`: what people call its target. */
  readonly told: (trx: Write, made: LockTable, name: string) => Promise<void>
  readonly failed: (error: unknown) => void
}

/** Locks that are being made at once; beyond that somebody has very many sessions, and the next refusal trips again. */
const MOST_PENDING = 100

/**
 * Watches the records of this node, and makes the locks that tripwires ask for: one for each cause, however many records come.
 * Each node counts its own; a lock that another node made for the same target counts as one's own. Returns what ends it.
 */
export function keepTripwires(parts: TripwiresParts): () => Promise<void> {
  const { audit, clock, failed } = parts
  const windows = new Map<string, Windows>()
  const pending = new Map<string, Promise<void>>()

  const stop = audit.watch((envelope) => {
    for (const tripwire of parts.tripwires()) {
      const key = causeOf(tripwire, envelope)
      if (key === undefined || !trips(tripwire, key)) continue
      const target = targetOf(parts, tripwire, envelope)
      const cause = target && `${tripwire.name} ${target.kind} ${target.target}`
      if (!target || cause === undefined || pending.has(cause) || pending.size >= MOST_PENDING) continue
      const work = lockOnce(parts, tripwire, target, envelope)
        .catch(failed)
        .finally(() => pending.delete(cause))
      pending.set(cause, work)
    }
    forget()
  }, TRIPPING)

  function trips({ name, refused }: Tripwire, key: string): boolean {
    if (!refused) return true
    const counted = windows.get(name) ?? new Windows()
    windows.set(name, counted)
    return counted.add(key, clock.now(), refused)
  }

  /** What was counted for a tripwire that is no longer applied. */
  function forget(): void {
    const names = parts.tripwires()
    if (windows.size <= names.length) return
    for (const name of windows.keys()) if (!names.some((one) => one.name === name)) windows.delete(name)
  }

  return async () => {
    stop()
    await Promise.all(pending.values())
  }
}

interface Target extends Pick<MakeLock, 'kind' | 'target'> {
  readonly name: string
}

/** Only what the record proves: who asked, in which session, with which credential; never a name that somebody typed. */
function targetOf(
  { administers, ownerOf }: TripwiresParts,
  { lock, except }: Tripwire,
  { actor, session, credential }: Envelope,
): Target | undefined {
  if (!actor || session === undefined) return undefined
  const itsSession = { kind: 'session', target: session, name: session } as const
  if (lock === 'session') return itsSession
  if (lock === 'owner') {
    const owner = ownerOf(actor.id)
    // A person owns himself: his agents have done nothing.
    if (!owner) return itsSession
    return except.has(owner.name) ? undefined : { kind: 'owner', target: owner.id, name: `agents of ${owner.name}` }
  }
  if (administers(actor.id)) return itsSession
  if (lock === 'identity') return { kind: 'identity', target: actor.id, name: actor.name }
  return credential === undefined ? itsSession : { kind: 'credential', target: credential, name: credential }
}

async function lockOnce(parts: TripwiresParts, tripwire: Tripwire, wanted: Target, cause: Envelope): Promise<void> {
  const { store, audit, clock, raised, told } = parts
  // His pipeline that applies roles has done nothing, and may be what could mend it: then only where he was refused is locked.
  const tooMuch = wanted.kind === 'identity' && cause.session !== undefined && (await parts.agentsAdminister(wanted.target))
  const { kind, target: id, name }: Target = tooMuch ? { kind: 'session', target: cause.session!, name: cause.session! } : wanted
  const isThere = async (db: Parameters<typeof activeLocks>[0]) =>
    (await activeLocks(db, clock.now())).some((lock) => lock.made_by === tripwire.name && lock.target_kind === kind && lock.target === id)
  if (await isThere(store.db)) return
  const now = clock.now()
  const expiresAt = now + tripwire.forMs
  await audit.append({
    type: 'lock.made',
    ...(cause.session === undefined ? {} : { session: cause.session }),
    data: { kind, target: id, name, reason: tripwire.reason, expiresAt, tripwire: tripwire.name, cause: cause.id },
  })
  // Two nodes may come to it at the same moment; changes of rights follow each other, so the second sees the first's.
  const { epoch } = await store.reduce(async (trx) => {
    if (await isThere(trx)) return
    await told(trx, await makeLock(trx, { kind, target: id, reason: tripwire.reason, madeBy: tripwire.name, expiresAt, now }), name)
  })
  await raised(epoch)
}
