import type { Mirror, Relation, Routine } from '../mirror/types.ts'
import { listOf, namesOf, type Tree, textOf, unwrap } from '../sql/nodes.ts'
import { parseSql } from '../sql/parse.ts'
import { made, mustNotTouch } from './expressions.ts'
import { relationTable } from './from.ts'
import { Hidings } from './hiding.ts'
import { MaskKeys } from './keys.ts'
import { type Look, Misuse } from './look.ts'
import { type Order, orderOf } from './order.ts'
import { queries } from './query.ts'
import { NO_CTES, type Output, type Scope, scopeOf } from './scope.ts'
import { mustTellNothing } from './tells.ts'
import type { Mask, MaskForm, MaskPlan, Source } from './types.ts'
import { targetOf } from './writes.ts'

/** Why a statement may not run where columns are hidden; for people. */
export interface Misused {
  readonly why: string
  readonly fix: string
}

const NO_ROWS: Output = { columns: [], open: false }
const UNKNOWN_ROWS: Output = { columns: [], open: true }

const FIX = 'A hidden column may stand in a select list as it is, and nowhere else: not in a condition, sort, group, join, function or expression.'

/** Statements that neither read nor compare what lies in tables. */
const HARMLESS: ReadonlySet<string> = new Set([
  'TransactionStmt',
  'VariableSetStmt',
  'VariableShowStmt',
  'DeallocateStmt',
  'ClosePortalStmt',
  'ConstraintsSetStmt',
  'UnlistenStmt',
  'NotifyStmt',
  'LockStmt',
  'DiscardStmt',
])

/** One mask over one state of a database: makes the plans of statements. What is hidden where is worked out once. */
export class Masker {
  readonly #mirror: Mirror
  readonly #hidings: Hidings
  readonly #isReviewed: (routine: Routine) => boolean
  readonly #idle: readonly string[]
  readonly #plans = new Map<string, MaskPlan | Misused>()
  readonly #keys: MaskKeys
  #order: Order | undefined

  constructor(mask: Mask, mirror: Mirror, isReviewed: (routine: Routine) => boolean = () => false) {
    const keys = new MaskKeys(mask)
    this.#keys = keys
    this.#mirror = mirror
    this.#isReviewed = isReviewed
    this.#hidings = new Hidings(mirror, keys, isReviewed)
    this.#idle = keys.idle(mirror)
  }

  /** `stands`: for FETCH and EXECUTE everything that the name may stand for. */
  plan(statement: Source, stands: readonly Source[] = []): MaskPlan | Misused {
    const key = JSON.stringify([statement, stands])
    if (key.length > LONGEST_KEPT) return this.#make(statement, stands)
    const known = this.#plans.get(key)
    if (known) return known
    const made = this.#make(statement, stands)
    if (this.#plans.size >= MOST_PLANS) this.#plans.clear()
    this.#plans.set(key, made)
    return made
  }

  /** see {@link orderOf} */
  order(): Order {
    this.#order ??= orderOf(this.#mirror, this.#keys, (relation) => this.#hidings.of(relation))
    return this.#order
  }

  #make(statement: Source, stands: readonly Source[]): MaskPlan | Misused {
    try {
      const own = this.#one(statement)
      if (!isStandIn(statement)) return own
      const plans = stands.map((source) => this.#one(source))
      const [first] = plans
      if (!first) throw new Misuse('what it stands for is not known')
      if (plans.some((plan) => !sameOutputs(plan, first))) throw new Misuse('the name stands for statements with different results')
      return { ...first, guarded: own.guarded || plans.some((plan) => plan.guarded) }
    } catch (error) {
      if (error instanceof Misuse) return { why: error.message, fix: FIX }
      // Deep nesting ends in a RangeError: it was not read to its end.
      if (error instanceof RangeError) return { why: 'it is nested too deeply to be followed', fix: FIX }
      throw error
    }
  }

  #one({ text, path, types }: Source): MaskPlan {
    const parsed = parseSql(text)
    if ('failure' in parsed) throw new Misuse('it cannot be read')
    if (parsed.statements.length > 1) throw new Misuse('it holds several statements')
    let guarded = false
    let carries = false
    const look: Look = {
      mirror: this.#mirror,
      path,
      hidingOf: (relation) => this.#hidings.of(relation),
      output: queries(() => look),
      isReviewed: this.#isReviewed,
      misuse(why) {
        throw new Misuse(why)
      },
      isView: false,
      guard() {
        guarded = true
      },
      carry() {
        carries = true
      },
      get carries() {
        return carries
      },
    }
    const tree = parsed.statements[0]?.tree
    for (const oid of types ?? []) made(this.#mirror.typeByOid(oid), look)
    const output = tree ? statementOutput(tree, look) : NO_ROWS
    const outputs = new Map<number, MaskForm>()
    output.columns.forEach(({ hides }, i) => {
      if (hides === 'unshowable') throw new Misuse('it would show what is computed from a hidden column')
      if (hides) outputs.set(i, hides)
    })
    if (output.open && outputs.size > 0) throw new Misuse('a hidden column stands beside columns that are not known here, so its place is not known')
    return {
      outputs,
      width: output.open ? undefined : output.columns.length,
      guarded,
      idle: this.#idle,
      hiddenAt: (table, attnum) => this.#hiddenAt(table, attnum),
    }
  }

  #hiddenAt(table: number, attnum: number) {
    // No table, a system column, or one of the server's own tables: those were held against the list when they were named.
    if (table === 0 || attnum <= 0 || table < FIRST_USER_OID) return undefined
    const relation = this.#mirror.relationByOid(table)
    const at = relation?.columns.findIndex((column) => column.attnum === attnum) ?? -1
    return at < 0 ? 'unshowable' : this.#hidings.of(relation as Relation).columns[at]!.hides
  }
}

const MOST_PLANS = 512
/** characters of a text whose plan is remembered */
const LONGEST_KEPT = 8_192

/** FETCH and EXECUTE give the rows of another statement. */
function isStandIn({ text }: Source): boolean {
  const parsed = parseSql(text)
  const [type] = unwrap('statements' in parsed ? parsed.statements[0]?.tree : undefined)
  return type === 'FetchStmt' || type === 'ExecuteStmt'
}

/** FirstNormalObjectId of access/transam.h */
const FIRST_USER_OID = 16_384

const sameOutputs = (a: MaskPlan, b: MaskPlan) =>
  a.width === b.width && a.outputs.size === b.outputs.size && [...a.outputs].every(([place, form]) => b.outputs.get(place) === form)

/** The columns that the rows of a statement have. */
function statementOutput(statement: Tree, look: Look): Output {
  const [type, tree] = unwrap(statement)
  switch (type) {
    case 'SelectStmt': {
      const output = look.output(statement, undefined)
      if (!isKept(tree)) return output
      mustKeepNothing(output, look, 'a new table')
      return NO_ROWS
    }
    case 'InsertStmt':
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      return look.output(statement, undefined)
    case 'CreateTableAsStmt':
      if (unwrap(tree.query)[0] === 'ExecuteStmt') look.misuse('CREATE TABLE AS EXECUTE is not followed')
      mustKeepNothing(statementOutput(tree.query as Tree, look), look, 'a new table')
      return NO_ROWS
    case 'DeclareCursorStmt':
    case 'PrepareStmt':
      mustNotTouch(tree.argtypes, scopeOf([], undefined, NO_CTES), look, 'a parameter')
      return statementOutput(tree.query as Tree, look)
    case 'ExecuteStmt':
      mustNotTouch(tree.params, scopeOf([], undefined, NO_CTES), look, 'a parameter')
      return UNKNOWN_ROWS
    case 'FetchStmt':
      return UNKNOWN_ROWS
    case 'ExplainStmt':
      return explained(tree, look)
    case 'CopyStmt':
      return copied(tree, look)
    case 'ListenStmt':
      look.misuse('what others notify could hold what is hidden')
      return NO_ROWS
    case 'TruncateStmt':
      for (const range of listOf(tree.relations)) {
        const target = targetOf(unwrap(range)[1], look)
        if (target) mustTellNothing({ kind: 'delete' }, target, look)
      }
      return NO_ROWS
    default:
      if (type === undefined || !HARMLESS.has(type)) look.misuse('a rule that hides columns allows neither definitions nor code')
      return UNKNOWN_ROWS
  }
}

function mustKeepNothing({ columns }: Output, look: Look, where: string): void {
  if (columns.some((column) => column.hides)) look.misuse(`a hidden column is written into ${where}`)
}

/** SELECT INTO: of a set operation it stands in the first of its queries. */
function isKept(tree: Tree): boolean {
  let first: Tree | undefined = tree
  while (first && first.intoClause === undefined) first = first.larg as Tree | undefined
  return first !== undefined
}

/** Widths, costs and memory are made of how long values are. */
function explained(tree: Tree, look: Look): Output {
  const [type] = unwrap(tree.query)
  if (type === 'ExecuteStmt') look.misuse('EXPLAIN of EXECUTE is not followed')
  statementOutput(tree.query as Tree, look)
  const options = new Map(
    listOf(tree.options)
      .map((option) => unwrap(option)[1])
      .map(({ defname, arg }) => [String(defname), textOf(arg)]),
  )
  const off = (name: string) => ['off', 'false', '0', 'f', 'no'].includes(options.get(name)?.toLowerCase() ?? '')
  const plain = off('costs') && (!options.has('analyze') || off('analyze')) && !options.has('serialize')
  if (!plain && look.carries) look.misuse('EXPLAIN shows how long the values of a hidden column are; write EXPLAIN (COSTS OFF)')
  // Of a row that is changed it gives the size.
  if (options.has('wal') && !off('wal')) look.misuse('EXPLAIN (WAL) shows how long hidden values are')
  return UNKNOWN_ROWS
}

/** Data of a COPY is not rewritten, so nothing hidden may be in it. */
function copied(tree: Tree, look: Look): Output {
  if (tree.query) {
    const output = statementOutput(tree.query as Tree, look)
    if (output.columns.some((column) => column.hides)) look.misuse('COPY cannot hide columns; use SELECT, or leave the hidden column out')
    return NO_ROWS
  }
  const target = targetOf(tree.relation as Tree, look)
  if (!target) return NO_ROWS
  const table = relationTable(target, undefined, [], look)
  const named = namesOf(tree.attlist)
  const scope: Scope = scopeOf([{ tables: [table], columns: table.columns, open: false }], undefined, NO_CTES)
  mustNotTouch(tree.whereClause, scope, look, 'WHERE')
  if (tree.is_from === true) {
    mustTellNothing({ kind: 'insert' }, target, look, named)
    return NO_ROWS
  }
  const hidden = table.columns.find((column) => column.hides && (named.length === 0 || named.includes(column.name ?? '')))
  if (hidden) look.misuse(`COPY cannot hide the column ${JSON.stringify(hidden.name)}; use SELECT, or name the other columns`)
  return NO_ROWS
}
