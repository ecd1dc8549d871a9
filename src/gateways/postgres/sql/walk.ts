import { type Findings, type Surroundings, Tally } from './findings.ts'
import { SHAPES } from './grammar.ts'
import { listOf, namesOf, type Tree, textOf, unwrap } from './nodes.ts'
import { setStatement, transactionStatement } from './session.ts'
import { PLAIN_STATEMENTS } from './statements.ts'

/** Names of common table expressions that hide tables here. */
type Scope = ReadonlySet<string>

const NO_NAMES: Scope = new Set()

/** `CURSOR_OPT_HOLD` of nodes/parsenodes.h */
const CURSOR_HOLD = 0x20

/** Looks at every node of one parsed statement (`{ "SelectStmt": {...} }`). Never throws: what it cannot follow is unclear. */
export function walkStatement(statement: Tree, around: Surroundings): Findings {
  const found = new Tally(around)
  try {
    new Walk(found).statement(statement, NO_NAMES, true)
  } catch (error) {
    // Deep nesting ends in a RangeError. Whatever it is, the statement was not read to its end.
    found.doubt(error instanceof RangeError ? 'it is nested too deeply' : 'it cannot be followed')
  }
  if (found.effects.size === 0) found.does('read')
  return found
}

class Walk {
  readonly #found: Tally

  constructor(found: Tally) {
    this.#found = found
  }

  /** `named`: its kind counts for `statements:`; a SELECT inside an INSERT is part of the INSERT. */
  statement(wrapped: unknown, scope: Scope, named: boolean): void {
    const found = this.#found
    const [type, tree] = unwrap(wrapped)
    switch (type) {
      case undefined:
        found.doubt('it holds something unexpected')
        break
      case 'SelectStmt':
        if (named) found.is('select')
        found.does('read')
        this.#query(type, tree, scope)
        break
      case 'InsertStmt':
        found.is('insert')
        if ((tree.onConflictClause as Tree | undefined)?.action === 'ONCONFLICT_UPDATE') found.is('update')
        this.#change(type, tree, scope)
        break
      case 'UpdateStmt':
        found.is('update')
        found.everyRow ||= !namesRows(tree.whereClause)
        this.#change(type, tree, scope)
        break
      case 'DeleteStmt':
        found.is('delete')
        if (!namesRows(tree.whereClause)) {
          found.everyRow = true
          found.does('destroy')
        }
        this.#change(type, tree, scope)
        break
      case 'MergeStmt':
        this.#merge(type, tree, scope)
        break
      case 'CreateTableAsStmt':
        found.is('create table as')
        found.makes(tree.into as Tree | undefined)
        this.statement(tree.query, scope, true)
        break
      case 'ExplainStmt':
        this.#explain(tree, scope)
        break
      case 'CopyStmt':
        this.#copy(tree, scope)
        break
      case 'DeclareCursorStmt':
        found.is('cursor')
        found.declares = String(tree.portalname)
        // WITH HOLD outlives the transaction, and with it what the transaction was held to (B16).
        if ((Number(tree.options ?? 0) & CURSOR_HOLD) !== 0) found.does('write')
        this.statement(tree.query, scope, true)
        break
      case 'FetchStmt':
        found.is('fetch')
        found.fetches = String(tree.portalname)
        found.does('read')
        break
      case 'CallStmt':
        found.is('call')
        found.doesAnything()
        this.#visit('FuncCall', tree.funccall as Tree, scope)
        break
      case 'VariableShowStmt':
        found.is('show')
        found.does('read')
        break
      case 'VariableSetStmt':
        setStatement(found, tree)
        break
      case 'TransactionStmt':
        transactionStatement(found, tree)
        break
      case 'PrepareStmt':
      case 'ExecuteStmt':
        found.is(type === 'PrepareStmt' ? 'prepare' : 'execute')
        found.doubt('PREPARE and EXECUTE in SQL are not followed; use the prepared statements of the protocol, as drivers do')
        break
      default:
        this.#plain(type, tree)
    }
  }

  /** SELECT, also bare inside a set operation: `larg` and `rarg` come here through the table of shapes. */
  #query(type: string, tree: Tree, scope: Scope): void {
    const inner = this.#with(tree.withClause as Tree | undefined, scope)
    if (tree.intoClause) {
      this.#found.is('create table as')
      this.#found.makes(tree.intoClause as Tree)
    }
    // FOR UPDATE and its kin write to the rows and stop other writers (B13).
    if (tree.lockingClause) this.#found.does('write')
    this.#children(type, tree, inner, ['withClause', 'intoClause', 'lockingClause'])
  }

  #change(type: string, tree: Tree, scope: Scope): void {
    this.#found.does('write')
    this.#found.writes(tree.relation as Tree)
    // Rows come back, or decide which rows change: both show what is in them.
    if (tree.returningClause || tree.whereClause) this.#found.does('read')
    this.#children(type, tree, this.#with(tree.withClause as Tree | undefined, scope), ['withClause', 'relation'])
  }

  #merge(type: string, tree: Tree, scope: Scope): void {
    this.#found.is('merge')
    this.#found.reads(tree.relation as Tree)
    for (const clause of listOf(tree.mergeWhenClauses)) {
      const { commandType } = unwrap(clause)[1]
      if (commandType === 'CMD_INSERT') this.#found.is('insert')
      if (commandType === 'CMD_UPDATE') this.#found.is('update')
      if (commandType === 'CMD_DELETE') {
        this.#found.is('delete')
        this.#found.does('destroy')
      }
    }
    this.#change(type, tree, scope)
  }

  /** The names that a WITH adds. A name hides a table only where the server thinks so too: without RECURSIVE not in itself, nor before it. */
  #with(clause: Tree | undefined, scope: Scope): Scope {
    if (!clause) return scope
    const parts = listOf(clause.ctes).map((wrapped) => unwrap(wrapped)[1])
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
    if (type !== undefined) this.#visit(type, tree, scope)
    // libpg-query writes `{}` for an empty place in a list.
    else if (Object.keys(tree).length > 0) this.#found.doubt('it holds something unexpected')
  }

  #visit(type: string, tree: Tree, scope: Scope): void {
    switch (type) {
      case 'A_Const':
        return
      case 'RangeVar':
        if (tree.schemaname !== undefined || tree.catalogname !== undefined || !scope.has(String(tree.relname))) this.#found.reads(tree)
        return
      case 'SelectStmt':
        this.#query(type, tree, scope)
        return
      case 'FuncCall':
        this.#found.calls(namesOf(tree.funcname), listOf(tree.args))
        break
      case 'RangeTableSample':
        this.#found.calls(namesOf(tree.method), [])
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

  /** `seen`: fields that were looked at already. */
  #children(type: string, tree: Tree, scope: Scope, seen: readonly string[]): void {
    const shape = Object.hasOwn(SHAPES, type) ? SHAPES[type] : undefined
    if (!shape) {
      this.#found.doubt(`it holds ${type}, which is not reviewed`)
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
      } else this.#found.doubt(`it holds ${type}.${key}, which is not reviewed`)
    }
  }

  /** `OPERATOR(app.+)` runs whatever function that schema says. Unqualified ones are found in pg_catalog first. */
  #operator(name: unknown): void {
    const path = namesOf(name)
    if (path.length > 1 && path[0] !== 'pg_catalog') this.#found.calls(path, [])
  }

  #explain(tree: Tree, scope: Scope): void {
    const found = this.#found
    found.is('explain')
    const runs = listOf(tree.options).some((option) => {
      const { defname, arg } = unwrap(option)[1]
      return defname === 'analyze' && !/^(false|off|0)$/i.test(textOf(arg) ?? 'true')
    })
    if (runs) {
      this.statement(tree.query, scope, true)
      return
    }
    // It plans and does not run. Planning calls functions that say of themselves that they only read, so these still count.
    const inner = walkStatement(tree.query as Tree, found.around)
    found.does('read', ...(inner.opaque ? inner.effects : []))
    for (const table of [...inner.read, ...inner.written]) found.read.add(table)
    for (const name of inner.functions) found.functions.add(name)
    for (const name of inner.settings) found.settings.add(name)
    found.opaque ||= inner.opaque
    found.loose ||= inner.loose
    if (inner.unclear !== undefined) found.doubt(inner.unclear)
  }

  #copy(tree: Tree, scope: Scope): void {
    const found = this.#found
    const stdio = tree.filename === undefined && !tree.is_program
    found.is('copy')
    if (tree.is_from) {
      found.does('write')
      found.writes(tree.relation as Tree)
      found.copiesIn = stdio
    } else {
      found.does('read')
      if (tree.relation) found.reads(tree.relation as Tree)
    }
    // A file or a program is the server's own, and runs as the server (B17).
    if (!stdio) found.does('admin', 'egress')
    if (tree.query) this.statement(tree.query, scope, true)
    if (tree.whereClause) this.#node(tree.whereClause, scope)
  }

  #plain(type: string, tree: Tree): void {
    const found = this.#found
    const plain = Object.hasOwn(PLAIN_STATEMENTS, type) ? PLAIN_STATEMENTS[type] : undefined
    if (!plain) {
      found.doubt(`${type} is not reviewed`)
      return
    }
    const temporary = type === 'CreateStmt' && (tree.relation as Tree | undefined)?.relpersistence === 't'
    found.is(plain.kind)
    found.does(...(temporary ? (['write'] as const) : plain.effects))
    if (plain.opaque && !this.#dropsByName(type, tree)) found.opaque = true
    if (type === 'DoStmt' || type === 'DiscardStmt') found.loose = true
    this.#sweep(tree)
  }

  /** DROP TABLE a, b without CASCADE touches what it names; true when that is all. */
  #dropsByName(type: string, tree: Tree): boolean {
    if (type !== 'DropStmt' || !/^OBJECT_(TABLE|VIEW|MATVIEW|FOREIGN_TABLE|SEQUENCE|INDEX)$/.test(String(tree.removeType))) return false
    for (const object of listOf(tree.objects)) {
      const path = namesOf(unwrap(object)[1].items)
      this.#found.writes({ relname: path.at(-1), ...(path.length > 1 ? { schemaname: path.at(-2) } : {}) })
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
    if (typeof tree.relname === 'string') this.#found.writes(tree)
    for (const key of Object.keys(tree)) {
      const inner = tree[key]
      // CREATE FUNCTION has a `funcname` too, and calls nothing.
      if (key === 'FuncCall') this.#found.calls(namesOf((inner as Tree).funcname), listOf((inner as Tree).args))
      this.#sweep(inner)
    }
  }
}

/** Whether a condition speaks of the rows at all: `WHERE true` is no condition. */
const namesRows = (where: unknown): boolean => where !== undefined && /"(ColumnRef|CurrentOfExpr)":/.test(JSON.stringify(where))
