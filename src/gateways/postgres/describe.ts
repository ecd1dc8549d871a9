import { type Action, EFFECTS, type Effect, type Resource } from '../../policy/types.ts'
import type { Mirror } from './mirror/types.ts'
import type { Findings } from './sql/findings.ts'
import { parseSql } from './sql/parse.ts'
import type { Ceilings } from './sql/settings.ts'
import { walkStatement } from './sql/walk.ts'

/** What the matchers of `rules.ts` read. */
export interface PostgresFacts {
  readonly database: string
  readonly user: string
  /** Its kind and those of the statements inside it that act: `WITH d AS (DELETE ...) SELECT` is select and delete. */
  readonly statements: readonly string[]
  /** `schema.table`, or `table` where the statement does not say the schema. */
  readonly tables: { readonly read: readonly string[]; readonly written: readonly string[] }
  /** Tables that stand behind the views and partitions that the statement names. An allow rule speaks of what is named; deny and ask also of these. */
  readonly behind?: readonly string[]
  /** `schema.table.column`, as far as it is known which are meant */
  readonly columns?: { readonly read: readonly string[]; readonly written: readonly string[] }
  /** The statement without its constants, hashed: the same for all that differ only in values. */
  readonly fingerprint?: string
  readonly functions: readonly string[]
  readonly settings: readonly string[]
  /** It runs code or touches tables that its text does not show. */
  readonly opaque: boolean
  /** An UPDATE or DELETE without a condition on rows. */
  readonly every_row: boolean
  /** The search path of the connection; absent when it is not known any more. */
  readonly path?: readonly string[]
  /** The connection itself, or the question whether it could ever write (see gateway.ts). */
  readonly probe?: boolean
}

/** What the connection was given by the database, and what makes names mean something. */
export interface SqlContext {
  /** Schemas in the order in which they are searched, pg_catalog included; undefined when a statement may have changed it. */
  readonly path: readonly string[] | undefined
  readonly ceilings: Ceilings
  /** What the database says of itself. Absent only where nobody is connected to it (`explain`): then whatever is the user's own is unknown. */
  readonly mirror?: Mirror
  /** The session began with `default_transaction_read_only=on`, and nothing that its rules allow lifts it. */
  readonly pinnedReadOnly?: boolean
  /** `schema.function`, or globs: reviewed by the owner of the database, and only reading. */
  readonly reviewed?: readonly string[]
}

export const ORDINARY: SqlContext = { path: ['pg_catalog', 'public'], ceilings: {} }

/** One statement of a text, and what it does. */
export interface Described extends Omit<Findings, 'kinds' | 'effects' | 'read' | 'written' | 'functions' | 'settings'> {
  readonly text: string
  readonly kinds: readonly string[]
  readonly effects: readonly Effect[]
  readonly read: readonly string[]
  readonly written: readonly string[]
  readonly functions: readonly string[]
  readonly settings: readonly string[]
  readonly summary: string
  /** The text could not be parsed at all. */
  readonly unread?: 'syntax' | 'size'
}

/** What each statement of the text does. Pure; the parser must be loaded. A text that cannot be parsed is one statement that no rule may allow. */
export function describeSql(sql: string, context: SqlContext = ORDINARY): readonly Described[] {
  const parsed = parseSql(sql)
  if ('failure' in parsed) return [unread(sql, parsed.failure, parsed.kind)]
  const builtinFirst = context.path?.[0] === 'pg_catalog'
  return parsed.statements.map(({ tree, text }) => describe(text, walkStatement(tree, { builtinFirst, ceilings: context.ceilings })))
}

function describe(text: string, found: Findings): Described {
  const { kind, opaque, loose, everyRow, copiesIn, declares, fetches, unclear } = found
  const [read, written] = [[...found.read].sort(), [...found.written].sort()]
  return {
    text,
    kind,
    opaque,
    loose,
    everyRow,
    copiesIn,
    declares,
    fetches,
    unclear,
    kinds: [...found.kinds].sort(),
    effects: EFFECTS.filter((effect) => found.effects.has(effect)),
    read,
    written,
    functions: [...found.functions].sort(),
    settings: [...found.settings].sort(),
    summary: summaryOf(kind, written.length > 0 ? written : read, [...found.settings]),
  }
}

function unread(text: string, why: string, kind: 'syntax' | 'size'): Described {
  const nothing = { read: [], written: [], functions: [], settings: [], declares: undefined, fetches: undefined }
  const unclear = kind === 'syntax' ? `it cannot be parsed: ${why}` : why
  return {
    ...nothing,
    text,
    kind: 'unknown',
    kinds: [],
    effects: EFFECTS,
    opaque: true,
    loose: true,
    everyRow: false,
    copiesIn: false,
    unclear,
    unread: kind,
    summary: 'SQL that cannot be read',
  }
}

/** `UPDATE public.customers`: no values, so no secrets. */
function summaryOf(kind: string, tables: readonly string[], settings: readonly string[]): string {
  const about = (tables.length > 0 ? tables : kind === 'set' ? settings : []).map((name) => name.slice(0, 63))
  return [kind.toUpperCase(), about.slice(0, 3).join(', '), about.length > 3 ? `and ${about.length - 3} more` : ''].filter(Boolean).join(' ')
}

/** What a connection is about. */
export interface Place {
  readonly resource: Resource
  readonly database: string
  readonly user: string
}

const NOTHING = { statements: ['connect'], tables: { read: [], written: [] }, functions: [], settings: [], opaque: false, every_row: false }

/** Opening a connection to a database as a database user. */
export function connectAction({ resource, database, user }: Place): Action {
  const facts: PostgresFacts = { ...NOTHING, database, user }
  return {
    kind: 'postgres',
    resource,
    operation: 'connect',
    effects: ['read'],
    facts: { ...facts },
    summary: `connect to ${database} as ${user}`,
    partial: true,
  }
}

/** The question whether any rule could let this connection change something, whatever the statement. Judged, never admitted. */
export function mayWriteAction({ resource, database, user }: Place): Action {
  const facts: PostgresFacts = { ...NOTHING, database, user, probe: true }
  return {
    kind: 'postgres',
    resource,
    operation: 'connect',
    effects: ['write'],
    facts: { ...facts },
    summary: `write to ${database} as ${user}`,
    partial: true,
  }
}

/** One statement as policy sees it. */
export function statementAction({ resource, database, user }: Place, described: Described, context: SqlContext): Action {
  const { kinds, read, written, functions, settings, opaque, everyRow, unclear } = described
  const facts: PostgresFacts = {
    database,
    user,
    statements: kinds,
    tables: { read, written },
    functions,
    settings,
    opaque,
    every_row: everyRow,
    ...(context.path ? { path: context.path } : {}),
  }
  return {
    kind: 'postgres',
    resource,
    operation: described.kind,
    effects: described.effects,
    facts: { ...facts },
    summary: described.summary,
    ...(unclear === undefined ? {} : { unclear }),
  }
}

/** A bounded memory of what texts do: prepared statements and ORMs send the same ones again and again. */
export class DescriptionCache {
  readonly #entries = new Map<string, readonly Described[]>()
  readonly #limits: { readonly entries: number; readonly characters: number }
  #characters = 0
  hits = 0
  misses = 0

  constructor(limits: { readonly entries: number; readonly characters: number } = { entries: 4096, characters: 8 * 1024 * 1024 }) {
    this.#limits = limits
  }

  describe(sql: string, context: SqlContext): readonly Described[] {
    // Everything that the description depends on is in the key; none of it can hold a NUL.
    const key = `${context.path?.[0] === 'pg_catalog' ? '+' : '-'}${ceilingsKey(context.ceilings)}\0${sql}`
    const known = this.#entries.get(key)
    if (known) {
      this.hits++
      return known
    }
    this.misses++
    const described = describeSql(sql, context)
    this.#entries.set(key, described)
    this.#characters += key.length
    // Oldest first: a hot text that falls out is back with its next use.
    for (const [old] of this.#entries) {
      if (this.#entries.size <= this.#limits.entries && this.#characters <= this.#limits.characters) break
      this.#entries.delete(old)
      this.#characters -= old.length
    }
    return described
  }
}

const keys = new WeakMap<Ceilings, string>()

function ceilingsKey(ceilings: Ceilings): string {
  const known = keys.get(ceilings)
  if (known !== undefined) return known
  const key = Object.entries(ceilings)
    .filter(([, limit]) => limit > 0)
    .sort()
    .join(';')
  keys.set(ceilings, key)
  return key
}
