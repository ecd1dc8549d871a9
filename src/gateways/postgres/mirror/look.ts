import { setImmediate as breathe } from 'node:timers/promises'
import { ChaperoneError } from '../../../errors.ts'
import { isLockTimeout } from '../database/ask.ts'
import { readable } from '../sql/encodings.ts'
import { CASTS, NAMES, OPERATORS, ROUTINES, relationsAfter, SIGNATURE, types, UNREADABLE } from './catalog.ts'
import { type Listed, makeMirror } from './make.ts'
import { type Column, type Mirror, type RelationKind, type Routine, UNREAD, type UserCast, type UserOperator, type UserType } from './types.ts'

/** Asks one statement on a connection of our own: read-only, with an empty search_path. */
export type Ask = (sql: string) => Promise<readonly (readonly (string | null)[])[]>

/** What a look may bring at most. A database that says more is refused, clearly and at connect. */
export interface LookLimits {
  readonly relations: number
  /** of all answers together */
  readonly characters: number
}

export const LOOK_LIMITS: LookLimits = { relations: 200_000, characters: 256 * 1024 * 1024 }

/** Relations that one question asks for, and rows that are read in one go: measured, under 10 ms each. */
const PAGE = 2_000
const AT_ONCE = 500
/** How long a look waits for a lock, so that a short change of a table is not noticed; and for each further one, of which there are so many. */
const FIRST_WAIT_MS = 500
const WAIT_MS = 50
const MOST_WAITS = 30
/** Domains over domains over ... */
const DEEPEST_DOMAIN = 64

/** A text that stays the same as long as the mirror holds. */
export async function lookForChanges(ask: Ask): Promise<string> {
  const [row] = await ask(SIGNATURE)
  return String(row?.[0] ?? '')
}

export interface Look {
  readonly mirror: Mirror
  readonly signature: string
  /** oids of what has a definition that could not be read, because of somebody's lock: {@link UNREAD} stands for it */
  readonly unread: readonly number[]
}

/** Whether something of `unread` is to be had again, as far as the server's list of locks tells. */
export async function isReadableNow(ask: Ask, unread: readonly number[]): Promise<boolean> {
  const still = oidsOf(await ask(UNREADABLE))
  return unread.some((oid) => !still.has(oid))
}

const oidsOf = (rows: readonly (readonly (string | null)[])[]) => new Set(rows.map(([oid]) => Number(oid)))

/** Reads what the database says of itself, in pages, so that nobody else on this process waits for it. Throws ChaperoneError. */
export async function look(ask: Ask, now: () => number, limits: LookLimits = LOOK_LIMITS): Promise<Look> {
  const takenAt = now()
  let characters = 0
  const read = async <T>(sql: string, each: (head: unknown[], more: string | null) => T): Promise<T[]> => {
    const results: T[] = []
    for (const [head, more] of await ask(sql)) {
      characters += (head?.length ?? 0) + (more?.length ?? 0)
      if (characters > limits.characters) throw tooLarge('its definitions are too long')
      results.push(each(JSON.parse(head ?? '[]') as unknown[], more ?? null))
      if (results.length % AT_ONCE === 0) await breathe()
    }
    return results
  }
  // One moment for all questions.
  await ask('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
  await ask(`SET LOCAL lock_timeout = ${FIRST_WAIT_MS}`)
  await ask('SAVEPOINT s')
  let waits = 0
  let locked: ReadonlySet<number> = new Set()
  /** Undefined: somebody's lock is in the way. */
  const unlessLocked = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (!isLockTimeout(error)) throw error
      waits++
      await ask('ROLLBACK TO s')
      await ask(`SET LOCAL lock_timeout = ${WAIT_MS}`)
      locked = oidsOf(await ask(UNREADABLE))
      return undefined
    }
  }
  const signature = await lookForChanges(ask)
  const unread: number[] = []
  const readTypes = (isRead: boolean) => read(types(isRead), typeOf)
  const userTypes = (await unlessLocked(() => readTypes(true))) ?? (await readTypes(false))
  unread.push(...userTypes.flatMap(({ type }) => (type.checks.includes(UNREAD) ? [type.oid] : [])))
  const domains = new Map(userTypes.flatMap(({ domainOver, type }) => (domainOver === 0 ? [] : [[type.oid, domainOver] as const])))
  const each = (head: unknown[], columns: string | null): Listed => {
    const relation = relationOf(head, columns, domains)
    const { oid, definition, partitionKey, policies, checks } = relation
    if (waits > 0 && ([definition, partitionKey, ...policies, ...(checks ?? [])].includes(UNREAD) || columns?.includes(`"${UNREAD}"`)))
      unread.push(oid)
    return relation
  }
  /** Halved until all can be read but what is locked, of which the list of locks did not tell. */
  const pageAfter = async (last: number, count: number): Promise<Listed[]> => {
    const whole = await unlessLocked(() => read(relationsAfter(last, count, [...locked]), each))
    if (whole) return whole
    if (waits === 1) return await pageAfter(last, count)
    if (count === 1 || waits >= MOST_WAITS) return await read(relationsAfter(last, count, 'all'), each)
    const half = Math.ceil(count / 2)
    const first = await pageAfter(last, half)
    return first.length < half ? first : [...first, ...(await pageAfter(first.at(-1)!.oid, count - half))]
  }
  const relations: Listed[] = []
  for (let last = 0, more = true; more; ) {
    const page = await pageAfter(last, PAGE)
    relations.push(...page)
    if (relations.length > limits.relations) throw tooLarge(`it has more than ${limits.relations} relations`)
    last = page.at(-1)?.oid ?? last
    more = page.length === PAGE
  }
  const routines = await read(ROUTINES, (head, parts): Routine => {
    const routine = routineOf(head)
    return parts === null ? routine : { ...routine, parts: (JSON.parse(parts) as unknown[][]).map(routineOf) }
  })
  const operators = await read(OPERATORS, operatorOf)
  const casts = await read(CASTS, castOf)
  const [names] = await read(NAMES, (functions, more) => ({ functions, relations: JSON.parse(more ?? '[]') as string[] }))
  const [version] = await ask("SELECT current_setting('server_version_num')")
  await ask('COMMIT')
  const mirror = makeMirror({
    serverVersion: Number(version?.[0]),
    takenAt,
    relations,
    routines,
    operators: operators.flat(),
    types: userTypes.map(({ type }) => type),
    casts,
    systemFunctions: (names?.functions ?? []) as string[],
    systemRelations: names?.relations ?? [],
  })
  return { mirror, signature, unread }
}

const tooLarge = (why: string) =>
  new ChaperoneError('too_large', `The database says more of itself than can be looked at: ${why}.`, {
    fix: 'Give Chaperone a database that holds less, or ask for a higher limit.',
  })

const KINDS: Readonly<Record<string, RelationKind>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
  S: 'sequence',
  c: 'composite',
}

type Domains = ReadonlyMap<number, number>

function relationOf(head: unknown[], columns: string | null, domains: Domains): Listed {
  const [
    oid,
    schema,
    name,
    kind,
    row,
    array,
    children,
    parents,
    hasTriggers,
    hasRules,
    uniques,
    references,
    policies,
    definition,
    checks,
    partitionKey,
    sorted,
  ] = head as [
    number,
    string,
    string,
    string,
    number,
    number,
    number[] | null,
    number[] | null,
    boolean,
    boolean,
    number[][] | null,
    [number[], number, number[]][] | null,
    string[] | null,
    string | null,
    string[] | null,
    string | null,
    [number[], boolean][] | null,
  ]
  return {
    oid: Number(oid),
    schema,
    name,
    kind: KINDS[kind] ?? 'other',
    rowType: [Number(row), Number(array)],
    columns: () => columnsOf(columns, domains),
    ...(definition === null ? {} : { definition: readable(definition) }),
    ...(partitionKey === null ? {} : { partitionKey }),
    checks: (checks ?? []).map(readable),
    sorted: (sorted ?? []).map(([columns, plain]) => ({ columns, plain })),
    policies: (policies ?? []).map(readable),
    children: oids(children),
    parents: oids(parents),
    hasTriggers,
    hasRules,
    uniques: uniques ?? [],
    references: (references ?? []).map(([mine, relation, theirs]) => ({ columns: mine, relation: Number(relation), theirs })),
  }
}

function columnsOf(text: string | null, domains: Domains): readonly Column[] {
  return (JSON.parse(text ?? '[]') as [number, string, number, string | null][]).map(([attnum, name, declared, generated]) => {
    let type = Number(declared)
    // A server that lies may say that two are made over each other.
    for (let below = domains.get(type), deep = 0; below !== undefined && deep < DEEPEST_DOMAIN; below = domains.get(type), deep++) type = below
    return { attnum, name, type, ...(type === Number(declared) ? {} : { domain: Number(declared) }), ...(generated === null ? {} : { generated }) }
  })
}

const ROUTINE_KINDS: Readonly<Record<string, Routine['kind']>> = { f: 'function', p: 'procedure', a: 'aggregate', w: 'window' }
const VOLATILITIES: Readonly<Record<string, Routine['volatility']>> = { i: 'immutable', s: 'stable' }

function routineOf(head: unknown[]): Routine {
  const [schema, name, kind, volatility, securityDefiner, language, takes, returns, least, variadic, shadowed] = head as [
    string,
    string,
    string,
    string,
    boolean,
    string,
    number[] | null,
    number,
    number,
    boolean,
    boolean,
  ]
  return {
    schema,
    name,
    kind: ROUTINE_KINDS[kind] ?? 'function',
    volatility: VOLATILITIES[volatility] ?? 'volatile',
    securityDefiner,
    language,
    takes: oids(takes),
    returns: Number(returns),
    least: Math.max(0, least),
    variadic,
    shadowed,
  }
}

function operatorOf(head: unknown[], code: string | null): UserOperator[] {
  const [from, operator, left, right, returns, shadowed] = head as [string, string, number, number, number, boolean]
  const takes = oids([left, right]).filter((oid) => oid !== 0)
  return routinesOf(code).map((routine) => ({ ...routine, from, operator, takes, returns: Number(returns), shadowed }))
}

function castOf(head: unknown[], code: string | null): UserCast {
  const [source, target, context] = head as [number, number, string]
  const [runs] = routinesOf(code)
  return {
    source: Number(source),
    target: Number(target),
    unasked: context === 'i' ? 'anywhere' : context === 'a' ? 'assignment' : 'never',
    ...(runs ? { runs } : {}),
  }
}

const TYPE_KINDS: Readonly<Record<string, UserType['kind']>> = { d: 'domain', e: 'enum', r: 'range', m: 'range', a: 'array', b: 'base' }

function typeOf(head: unknown[], code: string | null): { readonly type: UserType; readonly domainOver: number } {
  const [oid, schema, name, kind, element, base, subtype, range, checks] = head as [
    number,
    string,
    string,
    string,
    number,
    number,
    number,
    number,
    string[] | null,
  ]
  const parts = oids([element, base, subtype, range]).filter((part) => part !== 0)
  const type = {
    oid: Number(oid),
    schema,
    name,
    kind: TYPE_KINDS[kind] ?? 'base',
    parts,
    checks: (checks ?? []).map(readable),
    runs: routinesOf(code),
  }
  return { type, domainOver: Number(base) }
}

const routinesOf = (text: string | null): Routine[] => (text === null ? [] : (JSON.parse(text) as unknown[][]).map(routineOf))
/** JSON of an oid is a text in some versions and a number in others. */
const oids = (list: readonly unknown[] | null): number[] => (list ?? []).map(Number)
