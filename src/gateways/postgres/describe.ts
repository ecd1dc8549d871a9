import { type Action, EFFECTS, type Effect, type Resource } from '../../policy/types.ts'
import { surroundingsOf } from './around.ts'
import type { Source } from './masks/types.ts'
import type { Mirror } from './mirror/types.ts'
import type { Keeping, Kept } from './record/keep.ts'
import { newBudget } from './sql/behind.ts'
import { otherNames } from './sql/encodings.ts'
import type { Covered, Findings } from './sql/findings.ts'
import { type Handles, handlesOf } from './sql/handles.ts'
import type { Tree } from './sql/nodes.ts'
import { fingerprintOf, namesOf, parseSql, type Unread } from './sql/parse.ts'
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
  /**
   * The same of tables that a name without a schema leads to only if the one before them on the search path goes while the statement waits.
   * Rules count them as if they were named; absent where there are none.
   */
  readonly covered?: Covered<readonly string[]>
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
  /** Set where the record does not keep values as they are; no rule reads it. */
  readonly parameters?: Exclude<Kept, 'full'>
  /** Not a statement, but the question whether the connection could ever write, or which masks could ever hold for it (see fence.ts). */
  readonly probe?: boolean | 'masks'
}

/** What the connection was given by the database, and what makes names mean something. */
export interface SqlContext {
  /** Schemas in the order in which they are searched, pg_catalog included; undefined when a statement may have changed it. */
  readonly path: readonly string[] | undefined
  readonly ceilings: Ceilings
  /** What the database says of itself. Absent only where nobody is connected to it (`explain`): then whatever is the user's own is unknown. */
  readonly mirror?: Mirror
  /** Definitions were changed in this transaction: the mirror does not show them yet. */
  readonly unsettled?: boolean
  /** Names are taken to lead where they lead now, and nowhere else: to find out what a refusal is for, never to judge. */
  readonly asOfNow?: true
  /** The session began with `default_transaction_read_only=on`, and nothing that its rules allow lifts it. */
  readonly pinnedReadOnly?: boolean
  /** What the server keeps its texts in; absent: UTF8. */
  readonly encoding?: string | undefined
  /** `schema.function`, or globs: reviewed by the owner of the database, and only reading. */
  readonly reviewed?: readonly string[]
}

export const ORDINARY: SqlContext = { path: ['pg_catalog', 'public'], ceilings: {} }

/** One statement of a text, and what it does. */
export interface Described
  extends Omit<
      Findings,
      'kinds' | 'effects' | 'read' | 'written' | 'behind' | 'covered' | 'columnsRead' | 'columnsWritten' | 'functions' | 'settings' | 'lost'
    >,
    Handles {
  readonly text: string
  readonly kinds: readonly string[]
  readonly effects: readonly Effect[]
  readonly read: readonly string[]
  readonly written: readonly string[]
  readonly behind: readonly string[]
  /** see {@link PostgresFacts}; absent: none */
  readonly covered?: Covered<readonly string[]> | undefined
  readonly columns: { readonly read: readonly string[]; readonly written: readonly string[] }
  readonly functions: readonly string[]
  readonly settings: readonly string[]
  readonly summary: string
  /** The text could not be parsed at all. */
  readonly unread?: Unread['kind']
  /** Where it ended, in characters from 1. */
  readonly unreadAt?: number
  /** What a FETCH or EXECUTE runs, as far as the name was seen: all that it may stand for. */
  readonly stands?: readonly Source[]
  /** see {@link PostgresFacts} */
  readonly fingerprint?: string
  /** It ends a transaction, or says so: a COMMIT of a failed one rolls back. */
  readonly ends?: 'commit' | 'rollback'
}

/** What each statement of the text does. Pure; the parser must be loaded. A text that cannot be parsed is one statement that no rule may allow. */
export function describeSql(sql: string, context: SqlContext = ORDINARY, parameterTypes: readonly number[] = []): readonly Described[] {
  const parsed = parseSql(sql)
  if ('failure' in parsed) return [unread(sql, parsed)]
  const { encoding = 'UTF8' } = context
  if (encoding !== 'UTF8') {
    const names = namesOf(sql)
    const failure = names ? otherNames(names, encoding) : 'its names cannot be told apart'
    if (failure !== undefined) return [unread(sql, { failure, kind: 'names' })]
  }
  let around = { ...surroundingsOf(context), parameterTypes }
  return parsed.statements.map(({ tree, text }) => {
    const described = describe(text, tree, walkStatement(tree, around, newBudget()))
    // What stands behind it runs after it: names may lead elsewhere by then.
    if (described.loose && around.path) around = { ...around, path: undefined }
    if (described.effects.includes('admin')) around = { ...around, unsettled: true }
    return described
  })
}

function describe(text: string, tree: Tree, found: Findings): Described {
  const { kind, opaque, loose, through, unknown, everyRow, copiesIn, declares, fetches, unclear } = found
  const [read, written] = [[...found.read].sort(), [...found.written].sort()]
  const covered = coveredBy(found)
  const columns = (names: ReadonlySet<string>) => [...names].filter((name) => !isColumnOf(covered, found, name)).sort()
  return {
    text,
    kind,
    opaque,
    loose,
    through,
    unknown,
    everyRow,
    copiesIn,
    declares,
    fetches,
    unclear,
    kinds: [...found.kinds].sort(),
    effects: EFFECTS.filter((effect) => found.effects.has(effect)),
    read,
    written,
    behind: [...found.behind].sort(),
    columns: { read: columns(found.columnsRead), written: columns(found.columnsWritten) },
    functions: [...found.functions].sort(),
    settings: [...found.settings].sort(),
    summary: summaryOf(kind, written.length > 0 ? written : read, [...found.settings]),
    // Last: what stands behind a spread is put in one by one.
    ...(covered ? { covered } : {}),
    ...identifyingOf(text, tree),
    ...handlesOf(tree),
  }
}

/** What is not meant by another name of the statement too. */
function coveredBy({ covered, read, written, behind }: Findings): Covered<readonly string[]> | undefined {
  const beyond = (names: ReadonlySet<string>, meant: ReadonlySet<string>) => [...names].filter((name) => !meant.has(name)).sort()
  const all = { read: beyond(covered.read, read), written: beyond(covered.written, written), behind: beyond(covered.behind, behind) }
  return all.read.length + all.written.length + all.behind.length > 0 ? all : undefined
}

/** Nobody is told that a column was read of a table that was not. */
const isColumnOf = (covered: Covered<readonly string[]> | undefined, { read, written }: Findings, column: string): boolean =>
  covered !== undefined &&
  [...covered.read, ...covered.written].some((name) => column.startsWith(`${name}.`) && !read.has(name) && !written.has(name))

function identifyingOf(text: string, tree: Tree): Pick<Described, 'fingerprint' | 'ends'> {
  const fingerprint = fingerprintOf(text)
  const ends = ENDS[(tree.TransactionStmt as Tree | undefined)?.kind as string]
  return { ...(fingerprint === undefined ? {} : { fingerprint }), ...(ends === undefined ? {} : { ends }) }
}

const ENDS: Readonly<Record<string, 'commit' | 'rollback'>> = { TRANS_STMT_COMMIT: 'commit', TRANS_STMT_ROLLBACK: 'rollback' }

function unread(text: string, { failure, kind, at }: Unread): Described {
  const nothing = {
    read: [],
    written: [],
    behind: [],
    columns: { read: [], written: [] },
    functions: [],
    settings: [],
    declares: undefined,
    fetches: undefined,
  }
  const unclear = kind === 'syntax' ? `it cannot be parsed: ${failure}` : failure
  return {
    ...nothing,
    text,
    kind: 'unknown',
    kinds: [],
    effects: EFFECTS,
    opaque: true,
    loose: true,
    through: false,
    unknown: false,
    everyRow: false,
    copiesIn: false,
    unclear,
    unread: kind,
    ...(at === undefined ? {} : { unreadAt: at }),
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
  /** The protocol by which it came in, when that is another one. */
  readonly via?: string
  /** How much of values goes into the record; absent: all of it. */
  readonly keeping?: Keeping
}

const NOTHING = { statements: ['connect'], tables: { read: [], written: [] }, functions: [], settings: [], opaque: false, every_row: false }

/** Opening a connection to a database as a database user. */
export function connectAction({ resource, database, user, via }: Place): Action {
  const facts: PostgresFacts = { ...NOTHING, database, user }
  return {
    kind: 'postgres',
    resource,
    operation: 'connect',
    effects: ['read'],
    facts: { ...facts },
    summary: `connect to ${database} as ${user}`,
    partial: true,
    ...(via === undefined ? {} : { via }),
  }
}

/** The question whether any rule could let this connection change something, whatever the statement. Judged, never admitted. */
export function mayWriteAction({ resource, database, user, via }: Place): Action {
  const facts: PostgresFacts = { ...NOTHING, database, user, probe: true }
  return {
    kind: 'postgres',
    resource,
    operation: 'connect',
    effects: ['write'],
    facts: { ...facts },
    summary: `write to ${database} as ${user}`,
    partial: true,
    ...(via === undefined ? {} : { via }),
  }
}

/** The question which masks could hold for statements of this connection: asked with `Guard.demands`, never judged. */
export const anyMaskAction = (place: Place): Action => {
  const { facts, ...rest } = mayWriteAction(place)
  return { ...rest, effects: ['read'], facts: { ...facts, probe: 'masks' }, summary: `hide columns of ${place.database}` }
}

/** One statement as policy sees it. */
export function statementAction({ resource, database, user, keeping, via }: Place, described: Described, context: SqlContext): Action {
  const { kinds, read, written, behind, covered, columns, functions, settings, opaque, everyRow, unclear } = described
  const facts: PostgresFacts = {
    database,
    user,
    statements: kinds,
    tables: { read, written },
    ...(context.mirror ? { behind, columns } : {}),
    ...(covered ? { covered } : {}),
    functions,
    settings,
    opaque,
    every_row: everyRow,
    ...(described.fingerprint === undefined ? {} : { fingerprint: described.fingerprint }),
    ...(keeping === undefined || keeping.parameters === 'full' ? {} : { parameters: keeping.parameters }),
    ...(context.path ? { path: context.path } : {}),
  }
  return {
    kind: 'postgres',
    resource,
    operation: described.kind,
    effects: described.effects,
    facts: { ...facts },
    summary: described.summary,
    ...(via === undefined ? {} : { via }),
    ...(unclear === undefined ? {} : { unclear }),
  }
}

/** Descriptions that hold under one context. */
interface Space {
  readonly entries: Map<string, readonly Described[]>
  /** It was given up to make room: contexts that still point to it look for the new one. */
  isDropped: boolean
}

/** Hashes of texts that came once: twice the descriptions that are kept, in rows of four, so that two that meet do not push each other out. */
const ROWS = 2048
const ROW = 4

/** Whether a text has come before. Of each a hash stays, so now and then one is taken for another: then it is kept a little early. */
class Met {
  readonly #hashes = new Int32Array(ROWS * ROW)

  /** False: now it has. */
  before(text: string): boolean {
    const hash = hashOf(text)
    const row = (hash & (ROWS - 1)) * ROW
    for (let at = row; at < row + ROW; at++) if (this.#hashes[at] === hash) return true
    this.#hashes.copyWithin(row + 1, row, row + ROW - 1)
    this.#hashes[row] = hash
    return false
  }
}

/** FNV-1a, over both ends of a long text. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5 ^ text.length
  const skipped = text.length > 512 ? text.length - 512 : 0
  for (let i = 0; i < text.length; i++) {
    if (i === 256) i += skipped
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return hash ^ (hash >>> 15)
}

/**
 * A bounded memory of what texts do: prepared statements and ORMs send the same ones again and again. Kept is what comes a second
 * time. A client that writes its values into its texts sends each once, and those would all be copied into V8's old space.
 */
export class DescriptionCache {
  /** By what the description of a text depends on besides the text; the one that was made last stands last. */
  readonly #spaces = new Map<string, Space>()
  /** So that the hot path makes no key: contexts of one connection are the same object from statement to statement. */
  readonly #byContext = new WeakMap<SqlContext, Space>()
  readonly #limits: { readonly entries: number; readonly characters: number }
  readonly #met = new Met()
  #entries = 0
  #characters = 0
  hits = 0
  misses = 0

  constructor(limits: { readonly entries: number; readonly characters: number } = { entries: 4096, characters: 8 * 1024 * 1024 }) {
    this.#limits = limits
  }

  /** `parameterTypes`: oids of user's types that the client declared for parameters; they decide which code runs. */
  describe(sql: string, context: SqlContext, parameterTypes: readonly number[] = []): readonly Described[] {
    let space = this.#byContext.get(context)
    if (!space || space.isDropped) space = this.#spaceOf(context)
    // A text holds no NUL that the parser takes.
    const key = parameterTypes.length === 0 ? sql : `${sql}\0${parameterTypes.join()}`
    const known = space.entries.get(key)
    if (known) {
      this.hits++
      return known
    }
    this.misses++
    const described = describeSql(sql, context, parameterTypes)
    if (!this.#met.before(key)) return described
    space.entries.set(key, described)
    this.#entries++
    this.#characters += key.length
    this.#makeRoom()
    return described
  }

  #spaceOf(context: SqlContext): Space {
    const key = contextKey(context)
    const space = this.#spaces.get(key) ?? { entries: new Map(), isDropped: false }
    this.#spaces.set(key, space)
    this.#byContext.set(context, space)
    return space
  }

  /** Oldest first: a hot text that falls out is back with its next use. What an old mirror meant goes before what a new one means. */
  #makeRoom(): void {
    for (const [key, space] of this.#spaces) {
      for (const [old] of space.entries) {
        if (this.#entries <= this.#limits.entries && this.#characters <= this.#limits.characters) return
        space.entries.delete(old)
        this.#entries--
        this.#characters -= old.length
      }
      if (this.#spaces.size === 1) return
      space.isDropped = true
      this.#spaces.delete(key)
    }
  }
}

const numbers = new WeakMap<Mirror, number>()
let mirrors = 0

function numberOf(mirror: Mirror): number {
  const known = numbers.get(mirror) ?? ++mirrors
  numbers.set(mirror, known)
  return known
}

const contextKey = ({ path, ceilings, mirror, pinnedReadOnly, reviewed, unsettled, encoding }: SqlContext): string =>
  JSON.stringify([
    mirror ? numberOf(mirror) : 0,
    path ?? null,
    Object.entries(ceilings).sort(),
    pinnedReadOnly ?? false,
    reviewed ?? [],
    unsettled ?? false,
    encoding ?? 'UTF8',
  ])
