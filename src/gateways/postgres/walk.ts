import type { Effect } from '../../policy/types.ts'
import { effectsOfFunction } from './functions.ts'
import { SHAPES } from './grammar.ts'
import { isCatalogRead, relationName } from './relations.ts'
import { type Ceilings, effectOfSetting } from './settings.ts'
import { PLAIN_STATEMENTS } from './statements.ts'

/** What the walk relies on besides the text: what the connection was given. */
export interface Surroundings {
  /** True when an unqualified function is looked for in pg_catalog before any other schema. */
  readonly builtinFirst: boolean
  readonly ceilings: Ceilings
}

/** Everything that one statement does, as far as its text can say. */
export interface Findings {
  readonly kind: string
  readonly kinds: ReadonlySet<string>
  readonly effects: ReadonlySet<Effect>
  readonly read: ReadonlySet<string>
  readonly written: ReadonlySet<string>
  readonly functions: ReadonlySet<string>
  readonly settings: ReadonlySet<string>
  /** It runs code, or touches tables, that the text does not show. */
  readonly opaque: boolean
  /** It may change settings that later statements are read by. */
  readonly loose: boolean
  /** A DELETE or UPDATE that names no condition on the rows. */
  readonly everyRow: boolean
  /** COPY FROM STDIN: the client sends data after it. */
  readonly copiesIn: boolean
  /** The cursor it declares or reads from. */
  readonly declares: string | undefined
  readonly fetches: string | undefined
  /** Why no rule may allow it. */
  readonly unclear: string | undefined
}

type Tree = Readonly<Record<string, unknown>>
/** Names of common table expressions that hide tables here. */
type Scope = ReadonlySet<string>

const NO_NAMES: Scope = new Set()
const CURSOR_HOLD = 0x20

/** Looks at every node of one parsed statement (`{ "SelectStmt": {...} }`). Never throws: what it cannot follow is unclear. */
export function walkStatement(statement: Tree, around: Surroundings): Findings {
  const walk = new Walk(around)
  try {
    walk.statement(statement, NO_NAMES, true)
  } catch (error) {
    // Deep nesting ends in a RangeError. Whatever it is, the statement was not read to its end.
    walk.unclear ??= error instanceof RangeError ? 'it is nested too deeply' : 'it cannot be followed'
  }
  if (walk.effects.size === 0) walk.effects.add('read')
  return walk
}

class Walk implements Findings {
  readonly #around: Surroundings
  kind = 'unknown'
  readonly kinds = new Set<string>()
  readonly effects = new Set<Effect>()
  readonly read = new Set<string>()
  readonly written = new Set<string>()
  readonly functions = new Set<string>()
  readonly settings = new Set<string>()
  opaque = false
  loose = false
  everyRow = false
  copiesIn = false
  declares: string | undefined
  fetches: string | undefined
  unclear: string | undefined

  constructor(around: Surroundings) {
    this.#around = around
  }

  /** `named`: its kind counts for `statements:`; a SELECT inside an INSERT is part of the INSERT. */
  statement(wrapped: unknown, scope: Scope, named: boolean): void {
    const [type, tree] = unwrap(wrapped)
    if (type === undefined) {
      this.#doubt('it holds something unexpected')
      return
    }
    switch (type) {
      case 'SelectStmt':
        if (named) this.#is('select')
        this.effects.add('read')
        this.#query(type, tree, scope)
        return
      case 'InsertStmt':
        this.#is('insert')
        if (tree.onConflictClause && (tree.onConflictClause as Tree).action === 'ONCONFLICT_UPDATE') this.#is('update')
        this.#change(type, tree, scope)
        return
      case 'UpdateStmt':
        this.#is('update')
        if (!namesRows(tree.whereClause)) this.everyRow = true
        this.#change(type, tree, scope)
        return
      case 'DeleteStmt':
        this.#is('delete')
        if (!namesRows(tree.whereClause)) {
          this.everyRow = true
          this.effects.add('destroy')
        }
        this.#change(type, tree, scope)
        return
      case 'MergeStmt':
        this.#is('merge')
        this.#reads(tree.relation as Tree)
        if (JSON.stringify(tree.mergeWhenClauses ?? []).includes('"CMD_DELETE"')) this.effects.add('destroy')
        this.#change(type, tree, scope)
        return
      case 'CreateTableAsStmt':
        this.#is('create table as')
        this.#makesTable(tree.into as Tree | undefined)
        this.statement(tree.query, scope, true)
        return
      case 'ExplainStmt':
        this.#explain(tree, scope)
        return
      case 'CopyStmt':
        this.#copy(tree, scope)
        return
      case 'DeclareCursorStmt':
        this.#is('cursor')
        this.declares = String(tree.portalname)
        // WITH HOLD outlives the transaction, and with it what the transaction was held to (B16).
        if ((Number(tree.options ?? 0) & CURSOR_HOLD) !== 0) this.effects.add('write')
        this.statement(tree.query, scope, true)
        return
      case 'FetchStmt':
        this.#is('fetch')
        this.fetches = String(tree.portalname)
        this.effects.add('read')
        return
      case 'CallStmt':
        this.#is('call')
        this.#mayDoAnything()
        this.#visit('FuncCall', tree.funccall as Tree, scope)
        return
      case 'VariableShowStmt':
        this.#is('show')
        this.effects.add('read')
        return
      case 'VariableSetStmt':
        this.#set(tree)
        return
      case 'TransactionStmt':
        this.#transaction(tree)
        return
      case 'PrepareStmt':
      case 'ExecuteStmt':
        this.#is(type === 'PrepareStmt' ? 'prepare' : 'execute')
        this.#doubt('PREPARE and EXECUTE in SQL are not followed; use the prepared statements of the protocol, as drivers do')
        return
      default:
        this.#plain(type, tree)
        return
    }
  }

  /** SELECT, also bare inside a set operation: `larg` and `rarg` come here through the table of shapes. */
  #query(type: string, tree: Tree, scope: Scope): void {
    const inner = this.#with(tree.withClause as Tree | undefined, scope)
    if (tree.intoClause) {
      this.#is('create table as')
      this.#makesTable(tree.intoClause as Tree)
    }
    // FOR UPDATE and its kin write to the rows and stop other writers (B13).
    if (tree.lockingClause) this.effects.add('write')
    this.#children(type, tree, inner, ['withClause', 'intoClause', 'lockingClause'])
  }

  #change(type: string, tree: Tree, scope: Scope): void {
    this.effects.add('write')
    this.#writes(tree.relation as Tree)
    // Rows come back, or decide which rows change: both show what is in them.
    if (tree.returningClause || tree.whereClause) this.effects.add('read')
    this.#children(type, tree, this.#with(tree.withClause as Tree | undefined, scope), ['withClause', 'relation'])
  }

  /** The names that a WITH adds. A name hides a table only where the server thinks so too: without RECURSIVE not in itself, nor before it. */
  #with(clause: Tree | undefined, scope: Scope): Scope {
    if (!clause) return scope
    const parts = (clause.ctes as readonly unknown[]).map((wrapped) => unwrap(wrapped)[1])
    const inner = new Set(scope)
    if (clause.recursive) for (const part of parts) inner.add(String(part.ctename))
    for (const part of parts) {
      const [type] = unwrap(part.ctequery)
      this.statement(part.ctequery, clause.recursive ? inner : new Set(inner), type !== 'SelectStmt')
      if (part.search_clause) this.#visit('CTESearchClause', part.search_clause as Tree, inner)
      if (part.cycle_clause) this.#visit('CTECycleClause', part.cycle_clause as Tree, inner)
      inner.add(String(part.ctename))
    }
    return inner
  }

  #node(wrapped: unknown, scope: Scope): void {
    const [type, tree] = unwrap(wrapped)
    // libpg-query writes `{}` for an empty place in a list.
    if (type === undefined) {
      Object.keys(tree).length === 0 ? undefined : this.#doubt('it holds something unexpected')
      return
    }
    this.#visit(type, tree, scope)
  }

  #visit(type: string, tree: Tree, scope: Scope): void {
    switch (type) {
      case 'A_Const':
        return
      case 'RangeVar':
        if (tree.schemaname === undefined && tree.catalogname === undefined && scope.has(String(tree.relname))) return
        this.#reads(tree)
        return
      case 'SelectStmt':
        this.#query(type, tree, scope)
        return
      case 'FuncCall':
        this.#calls(names(tree.funcname), tree.args as readonly unknown[] | undefined)
        break
      case 'RangeTableSample':
        this.#calls(names(tree.method), undefined)
        break
      case 'A_Expr':
        this.#operator(tree.name)
        break
      case 'SubLink':
        this.#operator(tree.operName)
        break
      case 'SortBy':
        this.#operator(tree.useOp)
        break
      default:
    }
    this.#children(type, tree, scope, [])
  }

  #children(type: string, tree: Tree, scope: Scope, seen: readonly string[]): void {
    const shape = Object.hasOwn(SHAPES, type) ? SHAPES[type] : undefined
    if (!shape) {
      this.#doubt(`it holds ${type}, which is not reviewed`)
      return
    }
    for (const key of Object.keys(tree)) {
      const value = tree[key]
      if (typeof value !== 'object' || value === null || seen.includes(key)) continue
      if (shape.nodes?.includes(key)) {
        if (Array.isArray(value)) for (const item of value) this.#node(item, scope)
        else this.#node(value, scope)
      } else if (shape.typed && Object.hasOwn(shape.typed, key)) {
        this.#visit(shape.typed[key]!, value as Tree, scope)
      } else this.#doubt(`it holds ${type}.${key}, which is not reviewed`)
    }
  }

  #calls(path: readonly string[], args: readonly unknown[] | undefined): void {
    const name = path.at(-1) ?? ''
    this.functions.add(path.join('.'))
    const builtin = path.length === 2 ? path[0] === 'pg_catalog' : path.length === 1 && this.#around.builtinFirst
    if (builtin && name === 'set_config') {
      this.#setConfig(args ?? [])
      return
    }
    const { effects, opaque } = effectsOfFunction(name, builtin)
    for (const effect of effects) this.effects.add(effect)
    if (opaque) {
      this.opaque = true
      this.loose = true
    }
  }

  /** `OPERATOR(app.+)` runs whatever function that schema says. Unqualified ones are found in pg_catalog first. */
  #operator(name: unknown): void {
    const path = names(name)
    if (path.length > 1 && path[0] !== 'pg_catalog') this.#calls(path, undefined)
  }

  #setConfig(args: readonly unknown[]): void {
    const name = textOf(args[0])
    // pg_catalog.set_config with a computed name could switch off what this very parse relies on.
    if (name === undefined) {
      this.#doubt('the setting that set_config changes is not written out')
      return
    }
    this.#setting(name, textOf(args[1]) ?? null)
  }

  #set(tree: Tree): void {
    this.#is('set')
    const name = String(tree.name ?? '')
    switch (tree.kind) {
      case 'VAR_SET_VALUE': {
        const args = (tree.args ?? []) as readonly unknown[]
        this.#setting(name, args.length === 1 ? (textOf(args[0]) ?? null) : null)
        return
      }
      case 'VAR_SET_DEFAULT':
      case 'VAR_RESET':
        this.#setting(name, undefined)
        return
      case 'VAR_SET_MULTI':
        if (name === 'TRANSACTION' || name === 'SESSION CHARACTERISTICS') {
          this.#transactionModes(tree.args)
          return
        }
        this.settings.add(name.toLowerCase())
        this.effects.add('admin')
        return
      default:
        // RESET ALL: role and read-only default go back to what the database gives (B07).
        this.settings.add('all')
        this.effects.add('admin')
        this.loose = true
    }
  }

  #setting(name: string, value: string | null | undefined): void {
    const setting = name.toLowerCase()
    this.settings.add(setting)
    const { effects, unclear } = effectOfSetting(setting, value, this.#around.ceilings)
    for (const effect of effects) this.effects.add(effect)
    if (effects.includes('admin')) this.loose = true
    if (unclear !== undefined) this.#doubt(unclear)
  }

  #transaction(tree: Tree): void {
    this.#is('transaction')
    this.effects.add('read')
    // A prepared transaction outlives the connection, and everything that could roll it back.
    if (/PREPARE/.test(String(tree.kind))) this.effects.add('write')
    this.#transactionModes(tree.options)
  }

  #transactionModes(options: unknown): void {
    this.effects.add('read')
    for (const option of (options ?? []) as readonly unknown[]) {
      const element = unwrap(option)[1]
      if (element.defname === 'transaction_read_only') {
        this.settings.add('transaction_read_only')
        if (textOf(element.arg) !== '1') this.effects.add('write')
      } else if (!['transaction_isolation', 'transaction_deferrable'].includes(String(element.defname))) {
        // SET TRANSACTION SNAPSHOT and what may come.
        this.effects.add('admin')
      }
    }
  }

  #explain(tree: Tree, scope: Scope): void {
    const runs = ((tree.options ?? []) as readonly unknown[]).some((option) => {
      const element = unwrap(option)[1]
      return element.defname === 'analyze' && !/^(false|off|0)$/i.test(textOf(element.arg) ?? 'true')
    })
    if (runs) {
      this.#is('explain')
      this.statement(tree.query, scope, true)
      return
    }
    // It plans and does not run. Planning calls functions that say of themselves that they only read, so these still count.
    const inner = walkStatement(tree.query as Tree, this.#around)
    this.#is('explain')
    this.effects.add('read')
    if (inner.opaque) for (const effect of inner.effects) this.effects.add(effect)
    for (const table of [...inner.read, ...inner.written]) this.read.add(table)
    for (const name of inner.functions) this.functions.add(name)
    for (const name of inner.settings) this.settings.add(name)
    this.opaque ||= inner.opaque
    this.loose ||= inner.loose
    if (inner.unclear !== undefined) this.#doubt(inner.unclear)
  }

  #copy(tree: Tree, scope: Scope): void {
    this.#is('copy')
    if (tree.is_from) {
      this.effects.add('write')
      this.#writes(tree.relation as Tree)
      this.copiesIn = tree.filename === undefined && !tree.is_program
    } else {
      this.effects.add('read')
      if (tree.relation) this.#reads(tree.relation as Tree)
    }
    // A file or a program is the server's own, and runs as the server (B17).
    if (tree.filename !== undefined || tree.is_program) {
      this.effects.add('admin')
      this.effects.add('egress')
    }
    if (tree.query) this.statement(tree.query, scope, true)
    if (tree.whereClause) this.#node(tree.whereClause, scope)
  }

  #plain(type: string, tree: Tree): void {
    const plain = Object.hasOwn(PLAIN_STATEMENTS, type) ? PLAIN_STATEMENTS[type] : undefined
    if (!plain) {
      this.#doubt(`${type} is not reviewed`)
      return
    }
    this.#is(plain.kind)
    for (const effect of plain.effects) this.effects.add(effect)
    if (plain.opaque && !this.#dropsByName(type, tree)) this.opaque = true
    if (type === 'DoStmt' || type === 'DiscardStmt') this.loose = true
    if (type === 'CreateStmt' && (tree.relation as Tree | undefined)?.relpersistence === 't') {
      this.effects.delete('admin')
      this.effects.add('write')
    }
    this.#sweep(tree)
  }

  /** DROP TABLE a, b without CASCADE touches what it names; true when that is all. */
  #dropsByName(type: string, tree: Tree): boolean {
    if (type !== 'DropStmt' || !/^OBJECT_(TABLE|VIEW|MATVIEW|FOREIGN_TABLE|SEQUENCE|INDEX)$/.test(String(tree.removeType))) return false
    for (const object of (tree.objects ?? []) as readonly unknown[]) {
      const path = names(unwrap(object)[1].items)
      this.#writes({ relname: path.at(-1), ...(path.length > 1 ? { schemaname: path.at(-2) } : {}) })
    }
    return tree.behavior !== 'DROP_CASCADE'
  }

  /** Tables and functions anywhere inside a definition. Which of them it only reads is not asked: all count as written. */
  #sweep(value: unknown): void {
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      for (const item of value) this.#sweep(item)
      return
    }
    const tree = value as Tree
    if (typeof tree.relname === 'string') this.#writes(tree)
    for (const key of Object.keys(tree)) {
      // CREATE FUNCTION has a `funcname` too, and calls nothing.
      if (key === 'FuncCall') this.#calls(names((tree[key] as Tree).funcname), (tree[key] as Tree).args as readonly unknown[] | undefined)
      this.#sweep(tree[key])
    }
  }

  #makesTable(into: Tree | undefined): void {
    const relation = into?.rel as Tree | undefined
    this.effects.add(relation?.relpersistence === 't' ? 'write' : 'admin')
    this.effects.add('write')
    if (relation) this.#writes(relation)
    else this.#doubt('the table that it makes is not named')
  }

  #reads(relation: Tree): void {
    const name = relationName(relation)
    this.read.add(name)
    this.effects.add('read')
    // What others run and what their columns hold is not part of "may read" (design 4).
    if (isCatalogRead(name) === false) this.effects.add('admin')
  }

  #writes(relation: Tree): void {
    const name = relationName(relation)
    this.written.add(name)
    if (isCatalogRead(name) !== undefined) {
      this.effects.add('admin')
      this.loose = true
      // UPDATE pg_settings is SET by another name.
      if (/(^|\.)pg_settings$/.test(name)) this.#doubt('settings are changed with SET, not by writing to pg_settings')
    }
  }

  #mayDoAnything(): void {
    for (const effect of ['read', 'write', 'destroy', 'admin', 'egress'] as const) this.effects.add(effect)
    this.opaque = true
    this.loose = true
  }

  #is(kind: string): void {
    if (this.kinds.size === 0) this.kind = kind
    this.kinds.add(kind)
  }

  #doubt(why: string): void {
    this.unclear ??= why
  }
}

/** `{ "FuncCall": {...} }` -> ["FuncCall", {...}] */
function unwrap(wrapped: unknown): readonly [string | undefined, Tree] {
  if (typeof wrapped !== 'object' || wrapped === null) return [undefined, { wrapped }]
  const keys = Object.keys(wrapped)
  const inner = keys.length === 1 ? (wrapped as Tree)[keys[0]!] : undefined
  return typeof inner === 'object' && inner !== null && /^[A-Z]/.test(keys[0]!) ? [keys[0]!, inner as Tree] : [undefined, wrapped as Tree]
}

/** A list of String nodes: a qualified name. */
function names(list: unknown): readonly string[] {
  return Array.isArray(list) ? list.map((item) => String((unwrap(item)[1] as { sval?: unknown }).sval ?? '')) : []
}

/** The text of one plain constant; undefined for anything that is computed. */
function textOf(wrapped: unknown): string | undefined {
  const [type, tree] = unwrap(wrapped)
  if (type === 'TypeCast') return undefined
  if (type === 'String') return String(tree.sval ?? '')
  if (type === 'Integer') return String(tree.ival ?? 0)
  if (type !== 'A_Const') return undefined
  const { sval, ival, fval, boolval } = tree as Record<string, Tree | undefined>
  if (sval) return String(sval.sval ?? '')
  if (ival) return String(ival.ival ?? 0)
  if (fval) return String(fval.fval ?? '')
  if (boolval) return boolval.boolval ? 'on' : 'off'
  return undefined
}

/** Whether a condition speaks of the rows at all: `WHERE true` is no condition. */
function namesRows(where: unknown): boolean {
  return where !== undefined && /"(ColumnRef|CurrentOfExpr)":/.test(JSON.stringify(where))
}
