import type { Relation } from '../mirror/types.ts'
import { columnRef, fieldsOf, functionCall, newSyntax, operator, operators } from './calls.ts'
import { type Findings, Tally } from './findings.ts'
import { SHAPES } from './grammar.ts'
import { listOf, namesOf, type Tree, textOf, unwrap } from './nodes.ts'
import { anyOf, relationsOf } from './resolve.ts'
import { type Entry, entriesOf, entryOf, NO_SCOPE, type Scope } from './scope.ts'
import { movesPath, setStatement, transactionStatement } from './session.ts'
import { PLAIN_STATEMENTS } from './statements.ts'
import type { Budget, Surroundings } from './surroundings.ts'

/** `CURSOR_OPT_HOLD` of nodes/parsenodes.h */
const CURSOR_HOLD = 0x20

/** Looks at every node of one parsed statement (`{ "SelectStmt": {...} }`). Never throws: what it cannot follow is unclear. */
export function walkStatement(statement: Tree, around: Surroundings, budget: Budget): Findings {
  return walked(around, budget, (walk) => walk.statement(statement, NO_SCOPE, true))
}

/** The same for `SELECT expression`, where `scope` says what its columns belong to. */
export function walkExpression(statement: Tree, around: Surroundings, budget: Budget, scope: Scope): Findings {
  return walked(around, budget, (walk) => walk.statement(statement, scope, true))
}

function walked(around: Surroundings, budget: Budget, look: (walk: Walk) => void): Findings {
  const found = new Tally(around, budget)
  try {
    found.meetsParameters()
    look(new Walk(found))
    found.finish()
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
        // Judged by what it prepares; conversation/handles.ts follows the name to its EXECUTE.
        found.is('prepare')
        for (const type of listOf(tree.argtypes)) this.#node(type, scope)
        this.statement(tree.query, scope, true)
        break
      case 'ExecuteStmt':
        found.is('execute')
        found.does('read')
        for (const value of listOf(tree.params)) this.#node(value, scope)
        break
      default:
        this.#plain(type, tree)
    }
  }

  /** SELECT, also bare inside a set operation: `larg` and `rarg` come here through the table of shapes. */
  #query(type: string, tree: Tree, scope: Scope): void {
    const named = this.#with(tree.withClause as Tree | undefined, scope)
    const inner = this.#inFrom(tree.fromClause, named)
    if (tree.intoClause) {
      this.#found.is('create table as')
      this.#found.makes(tree.intoClause as Tree)
    }
    // FOR UPDATE and its kin write to the rows and stop other writers (B13).
    if (tree.lockingClause) this.#found.does('write')
    this.#children(type, tree, inner, ['withClause', 'intoClause', 'lockingClause'])
  }

  #change(type: string, tree: Tree, scope: Scope): void {
    const found = this.#found
    found.does('write')
    const target = tree.relation as Tree
    const relations = found.writes(target)
    // Rows come back, or decide which rows change: both show what is in them.
    if (tree.returningClause || tree.whereClause) found.does('read')
    const named = this.#with(tree.withClause as Tree | undefined, scope)
    this.#columnsOfChange(type, tree, relations ?? [])
    const own = entryOf(target, relations)
    const sources = tree.fromClause ?? tree.usingClause ?? (tree.sourceRelation && [tree.sourceRelation])
    const reach: Entry[] = [own, ...['old', 'new', 'excluded'].map((alias) => ({ ...own, alias })), ...this.#entries(sources, named)]
    this.#children(type, tree, { names: named.names, range: { entries: reach, outer: named.range } }, ['withClause', 'relation'])
  }

  #columnsOfChange(type: string, tree: Tree, relations: readonly Relation[]): void {
    const set = (list: unknown) => {
      for (const target of listOf(list)) this.#found.columns(relations, String(unwrap(target)[1].name ?? ''), true)
    }
    if (type === 'InsertStmt') {
      if (listOf(tree.cols).length > 0) set(tree.cols)
      else this.#found.columns(relations, '*', true)
      set((tree.onConflictClause as Tree | undefined)?.targetList)
    } else if (type === 'UpdateStmt') set(tree.targetList)
    for (const clause of listOf(tree.mergeWhenClauses)) set(unwrap(clause)[1].targetList)
  }

  #entries(items: unknown, scope: Scope): readonly Entry[] {
    const { around } = this.#found
    return entriesOf(items, scope, (rangeVar) => {
      if (!around.mirror || isHidden(rangeVar, scope)) return undefined
      return anyOf(relationsOf(rangeVar, around))
    })
  }

  #inFrom(items: unknown, scope: Scope): Scope {
    if (listOf(items).length === 0) return scope
    return { names: scope.names, range: { entries: this.#entries(items, scope), outer: scope.range } }
  }

  #merge(type: string, tree: Tree, scope: Scope): void {
    this.#found.is('merge')
    this.#found.reads(tree.relation as Tree)
    for (const clause of listOf(tree.mergeWhenClauses)) {
      const { commandType, condition, matchKind } = unwrap(clause)[1]
      if (commandType === 'CMD_INSERT') this.#found.is('insert')
      if (commandType === 'CMD_UPDATE') this.#found.is('update')
      if (commandType === 'CMD_DELETE') {
        this.#found.is('delete')
        this.#found.does('destroy')
      }
      // What matches nothing of the source was not chosen by the join.
      const chosen = matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_SOURCE' ? condition : [tree.joinCondition, condition]
      if (commandType !== 'CMD_INSERT' && commandType !== 'CMD_NOTHING') this.#found.everyRow ||= !namesRows(chosen)
    }
    this.#change(type, tree, scope)
  }

  /** The names that a WITH adds. A name hides a table only where the server thinks so too: without RECURSIVE not in itself, nor before it. */
  #with(clause: Tree | undefined, scope: Scope): Scope {
    if (!clause) return scope
    const parts = listOf(clause.ctes).map((wrapped) => unwrap(wrapped)[1])
    const names = new Set(scope.names)
    const inner: Scope = { names, range: scope.range }
    if (clause.recursive) for (const part of parts) names.add(String(part.ctename))
    for (const part of parts) {
      const [type] = unwrap(part.ctequery)
      this.statement(part.ctequery, clause.recursive ? inner : { ...inner, names: new Set(names) }, type !== 'SelectStmt')
      if (part.search_clause) this.#visit('CTESearchClause', part.search_clause as Tree, inner)
      if (part.cycle_clause) this.#visit('CTECycleClause', part.cycle_clause as Tree, inner)
      names.add(String(part.ctename))
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
    newSyntax(this.#found, type)
    if (type.startsWith('Json')) this.#found.makesJson()
    switch (type) {
      case 'A_Const':
        return
      case 'RangeVar':
        if (!isHidden(tree, scope)) this.#found.reads(tree)
        return
      case 'SelectStmt':
        this.#query(type, tree, scope)
        return
      case 'FuncCall':
        functionCall(this.#found, tree, scope.range)
        break
      case 'RangeTableSample':
        this.#found.calls(namesOf(tree.method), [])
        break
      case 'ColumnRef':
        columnRef(this.#found, listOf(tree.fields), scope.range)
        return
      case 'A_Indirection':
        fieldsOf(this.#found, tree, scope.range)
        break
      case 'TypeName':
        this.#found.casts(tree)
        break
      case 'A_Expr':
        operators(this.#found, tree)
        break
      case 'SubLink':
        // `x IN (SELECT ...)` has no name, and means `=`.
        if (tree.subLinkType === 'ANY_SUBLINK' || tree.operName) operator(this.#found, tree.operName, [tree.testexpr, {}])
        break
      case 'CaseExpr':
        if (tree.arg) for (const when of listOf(tree.args)) operator(this.#found, undefined, [tree.arg, unwrap(when)[1].expr])
        break
      case 'JoinExpr':
        if (tree.usingClause || tree.isNatural) operator(this.#found, undefined, [{}, {}])
        break
      case 'SortBy':
        if (tree.useOp) operator(this.#found, tree.useOp, [tree.node, tree.node])
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

  #explain(tree: Tree, scope: Scope): void {
    const found = this.#found
    found.is('explain')
    const runs = listOf(tree.options).some((option) => {
      const { defname, arg } = unwrap(option)[1]
      return defname === 'analyze' && !/^(false|off|0)$/i.test(textOf(arg) ?? 'true')
    })
    // A temporary table that is named, and not made, has its schema made for it all the same: planned or run, it counts.
    const [type, query] = unwrap(tree.query)
    if (runs || type === 'CreateTableAsStmt' || query.intoClause) {
      this.statement(tree.query, scope, true)
      return
    }
    // It plans and does not run. Planning calls functions that say of themselves that they only read, so these still count.
    found.plans(walkStatement(tree.query as Tree, found.around, found.budget))
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
    if (type === 'TruncateStmt') found.everyRow = true
    found.does(...(temporary ? (['write'] as const) : plain.effects))
    if (plain.opaque && !this.#dropsByName(type, tree)) found.opaque = true
    if (type === 'DoStmt' || type === 'DiscardStmt' || movesPath(type, tree)) found.loose = true
    this.#sweep(tree)
  }

  /** DROP TABLE a, b without CASCADE touches what it names; true when that is all. */
  #dropsByName(type: string, tree: Tree): boolean {
    if (type !== 'DropStmt' || !/^OBJECT_(TABLE|VIEW|MATVIEW|FOREIGN_TABLE|SEQUENCE|INDEX)$/.test(String(tree.removeType))) return false
    for (const object of listOf(tree.objects)) {
      const path = namesOf(unwrap(object)[1].items)
      this.#found.mentions({ relname: path.at(-1), ...(path.length > 1 ? { schemaname: path.at(-2) } : {}) })
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
    if (typeof tree.relname === 'string') this.#found.mentions(tree)
    // ALTER ROLE, DATABASE, SYSTEM and CREATE FUNCTION ... SET: a function that has it would act as somebody else while it runs.
    if (/^VAR_/.test(String(tree.kind)) && /^chaperone\./i.test(String(tree.name))) this.#found.sets(String(tree.name), null)
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

/** Whether a common table expression stands in for the table. */
const isHidden = ({ schemaname, catalogname, relname }: Tree, { names }: Scope) =>
  schemaname === undefined && catalogname === undefined && names.has(String(relname))
