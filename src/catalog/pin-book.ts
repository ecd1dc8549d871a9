import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Database, Store, Write } from '../store/store.ts'
import type { PinTable } from '../store/tables.ts'
import {
  approved,
  type Definition,
  isPinnable,
  kept,
  MOST_PINS,
  observed,
  type Pin,
  type PinKind,
  pinsByServer,
  type ServerPins,
  type Subject,
  titleOf,
} from './pins.ts'

/** Who did it, for the record: the session whose list showed it, or the administrator who decided. */
export type PinActor = Pick<Draft, 'actor' | 'chain' | 'session' | 'credential'>

/** The server that it is about. */
export interface PinnedServer {
  readonly id: string
  readonly name: string
}

export interface Seen extends Subject {
  readonly definition: Definition
}

/** What an administrator saw when he decided: the hash is part of the decision (peers R47). */
export interface Shown extends Subject {
  readonly sha256: string
}

/** The definitions of what MCP servers offer, as they are approved. What decides on a call reads them from the state. */
export interface PinBook {
  /** As of the current state. */
  of(resourceId: string): ServerPins
  /**
   * Takes in what a list shows. When it resolves, every new or different definition is recorded and stored, and this
   * node's state knows it: only then may the list go out. Costs nothing when all of it is known. Throws when it cannot be kept.
   */
  observe(server: PinnedServer, seen: readonly Seen[], who: PinActor): Promise<void>
  /** In order of kind and name, without their texts. */
  rows(resourceId: string): Promise<readonly PinFacts[]>
  /** One of them, with its texts. Throws `not_found`. */
  row(server: PinnedServer, subject: Subject): Promise<PinTable>
  /** Approves them all or none. Returns the epoch. Throws `conflict` when one is not what was shown, `not_found`, `too_large`. */
  approve(server: PinnedServer, shown: readonly Shown[], by: PinActor & { readonly actor: { readonly id: string } }): Promise<number>
  /** Turns down the new definition. Throws `conflict`, `not_found`. */
  keep(server: PinnedServer, subject: Subject, by: PinActor): Promise<number>
}

interface PinBookParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** The pins of one server in the state that decides now. */
  readonly current: (resourceId: string) => ServerPins
  /** The epoch has risen: resolves when this node's state is not older. */
  readonly raised: (epoch: number) => Promise<void>
}

/** SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535. */
const ROWS_AT_ONCE = 200

/** Names in a leaf, which is small; what lies beyond is counted. */
const NAMES_IN_LEAF = 100

export function openPinBook({ store, audit, clock, current, raised }: PinBookParts): PinBook {
  /** One after the other for each server: ten sessions that list at once see one thing for the first time, not ten. */
  const turns = new Map<string, Promise<void>>()

  const news = (server: PinnedServer, seen: readonly Seen[], pins = current(server.id), now = clock.now()) => {
    let room = MOST_PINS - pins.size
    const fresh = new Map<string, Pin | undefined>()
    return seen.filter((one) => {
      const key = `${one.kind} ${one.name}`
      const pin = fresh.has(key) ? fresh.get(key) : pins.get(one.kind, one.name)
      if (!isPinnable(one) || (!pin && room <= 0)) return false
      const next = observed(pin, one, one.definition, { confirmed: pins.confirmed, now })
      if (next === pin) return false
      if (!pin) room--
      // Of two things with one name in one list the second differs from the first (peers R91).
      fresh.set(key, next)
      return true
    })
  }

  const take = async (server: PinnedServer, seen: readonly Seen[], who: PinActor): Promise<void> => {
    const fresh = news(server, seen)
    if (fresh.length === 0) return
    const pins = current(server.id)
    const isNew = (one: Seen) => pins.get(one.kind, one.name) === undefined
    const { yes: unknown = [], no: different = [] } = Object.groupBy(fresh, (one) => (isNew(one) ? 'yes' : 'no'))
    await note('pin.seen', server, unknown, who)
    await note('pin.changed', server, different, who)
    const { epoch } = await store.reduce(async (trx) => {
      const now = clock.now()
      const known = await trx.selectFrom('pins').select(DECIDING).where('resource_id', '=', server.id).execute()
      const there = pinsByServer(known.map((row) => [server.id, pinOf(row)]))(server.id)
      const seenAs = new Map<string, Pin>()
      const added = new Map<string, PinTable>()
      for (const one of fresh) {
        const key = `${one.kind} ${one.name}`
        const before = seenAs.get(key) ?? there.get(one.kind, one.name)
        const after = observed(before, one, one.definition, { confirmed: there.confirmed, now })
        if (after === before) continue
        seenAs.set(key, after)
        const row = added.get(key)
        if (!before) added.set(key, firstRow(server.id, after, one.definition, now))
        else if (row) added.set(key, { ...row, ...pendingOf(after, one.definition) })
        else await set(trx, server, one, pendingOf(after, one.definition))
      }
      const rows = [...added.values()]
      for (let i = 0; i < rows.length; i += ROWS_AT_ONCE)
        await trx
          .insertInto('pins')
          .values(rows.slice(i, i + ROWS_AT_ONCE))
          .execute()
    })
    await raised(epoch)
  }

  const note = async (type: 'pin.seen' | 'pin.changed', server: PinnedServer, which: readonly Seen[], who: PinActor) => {
    if (which.length === 0) return
    const named = which.map(({ kind, name, definition }) => ({ kind, name: name.slice(0, 200), sha256: definition.sha256 }))
    await audit.append({
      ...who,
      type,
      data: { server: { id: server.id, name: server.name }, pins: named.slice(0, NAMES_IN_LEAF), count: which.length },
      bodies: [{ name: 'definitions', bytes: which.map(({ definition }) => definition.text).join('\n') }],
    })
  }

  const rowOf = async (db: Database | Write, server: PinnedServer, { kind, name }: Subject): Promise<PinTable> => {
    const row = await db
      .selectFrom('pins')
      .selectAll()
      .where('resource_id', '=', server.id)
      .where('kind', '=', kind)
      .where('name', '=', name)
      .executeTakeFirst()
    if (row) return row
    throw new ChaperoneError('not_found', `${titleOf({ kind, name })} of ${server.name} was never seen.`, {
      fix: `See \`chaperone mcp pins ${server.name}\`.`,
    })
  }

  /** Later than every decision before it: who looks whether something was decided since compares these. */
  const moment = async (trx: Write, server: PinnedServer): Promise<number> => {
    const { newest } = await trx
      .selectFrom('pins')
      .select((is) => is.fn.max('approved_at').as('newest'))
      .where('resource_id', '=', server.id)
      .executeTakeFirstOrThrow()
    return Math.max(clock.now(), Number(newest ?? 0) + 1)
  }

  return {
    of: current,

    async observe(server, seen, who) {
      if (news(server, seen).length === 0) return
      const before = turns.get(server.id)
      const mine = (async () => {
        await before?.catch(() => {})
        await take(server, seen, who)
      })()
      turns.set(server.id, mine)
      try {
        await mine
      } finally {
        if (turns.get(server.id) === mine) turns.delete(server.id)
      }
    },

    rows: (resourceId) =>
      store.db
        .selectFrom('pins')
        .select([...DECIDING, 'first_seen_at'])
        .where('resource_id', '=', resourceId)
        .orderBy('kind')
        .orderBy('name')
        .execute(),

    row: (server, subject) => rowOf(store.db, server, subject),

    async approve(server, shown, by) {
      const check = async (db: Database | Write) => {
        for (const one of shown) {
          const row = await rowOf(db, server, one)
          approved(pinOf(row), one.sha256, clock.now())
          if ((row.pending ?? row.approved) === '')
            throw new ChaperoneError('too_large', `${titleOf(one)} is too long to be shown, so it cannot be approved.`)
        }
      }
      // The record comes first (rule 3); what would be refused is refused before it says otherwise.
      await check(store.db)
      await audit.append({
        ...by,
        type: 'pin.approved',
        data: {
          server: { id: server.id, name: server.name },
          pins: shown.slice(0, NAMES_IN_LEAF).map(({ kind, name, sha256 }) => ({ kind, name: name.slice(0, 200), sha256 })),
          count: shown.length,
        },
      })
      const { epoch } = await store.reduce(async (trx) => {
        const now = await moment(trx, server)
        await check(trx)
        for (const one of shown) {
          const row = await rowOf(trx, server, one)
          await set(trx, server, one, {
            approved: row.pending ?? row.approved,
            approved_sha256: one.sha256,
            approved_by: by.actor.id,
            approved_at: now,
            ...NOTHING_WAITS,
          })
        }
      })
      await raised(epoch)
      return epoch
    },

    async keep(server, subject, by) {
      const { kind, name } = subject
      const row = await rowOf(store.db, server, subject)
      kept(pinOf(row), clock.now())
      await audit.append({
        ...by,
        type: 'pin.kept',
        data: {
          server: { id: server.id, name: server.name },
          pins: [{ kind, name: name.slice(0, 200), sha256: row.approved_sha256, refused: row.pending_sha256 }],
        },
      })
      const { epoch } = await store.reduce(async (trx) => {
        const now = await moment(trx, server)
        kept(pinOf(await rowOf(trx, server, subject)), now)
        await set(trx, server, subject, { approved_at: now, ...NOTHING_WAITS })
      })
      await raised(epoch)
      return epoch
    },
  }
}

/** What {@link pinOf} needs; the texts stay in the store. */
export const DECIDING = ['resource_id', 'kind', 'name', 'approved_sha256', 'approved_by', 'approved_at', 'pending_sha256', 'pending_at'] as const

export type PinFacts = Pick<PinTable, (typeof DECIDING)[number] | 'first_seen_at'>

export const pinOf = (row: Pick<PinTable, (typeof DECIDING)[number]>): Pin => ({
  kind: row.kind as PinKind,
  name: row.name,
  confirmed: row.approved_by !== null,
  ...(row.approved_sha256 === null ? {} : { approved: row.approved_sha256 }),
  ...(row.pending_sha256 === null ? {} : { pending: row.pending_sha256 }),
  ...(row.pending_at === null ? {} : { pendingAt: row.pending_at }),
  ...(row.approved_at === null ? {} : { decidedAt: row.approved_at }),
})

const NOTHING_WAITS = { pending: null, pending_sha256: null, pending_at: null } as const

const set = (trx: Write, server: PinnedServer, { kind, name }: Subject, values: Partial<PinTable>) =>
  trx.updateTable('pins').set(values).where('resource_id', '=', server.id).where('kind', '=', kind).where('name', '=', name).execute()

const pendingOf = (pin: Pin, seen: Definition) => ({
  pending: pin.pending === undefined ? null : seen.text,
  pending_sha256: pin.pending ?? null,
  pending_at: pin.pendingAt ?? null,
})

const firstRow = (resourceId: string, pin: Pin, seen: Definition, now: number): PinTable => ({
  resource_id: resourceId,
  kind: pin.kind,
  name: pin.name,
  approved: pin.approved === undefined ? null : seen.text,
  approved_sha256: pin.approved ?? null,
  approved_by: null,
  approved_at: null,
  ...pendingOf(pin, seen),
  first_seen_at: now,
})
