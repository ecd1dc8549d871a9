import { EFFECTS, type Effect } from '../../../policy/types.ts'
import type { Relation, Routine } from '../mirror/types.ts'
import { effectsOfFunction, effectsOfRoutine, type FunctionEffects, isStandardRead, isTypeFunction, RUN_BY_PLANNER } from './functions.ts'
import { Implied } from './implied.ts'
import { namesOf, type Tree, textOf } from './nodes.ts'
import { isCatalogRead, quotedName, relationName } from './relations.ts'
import { anyOf, type Found, operatorsOf, reachesBuiltin, relationsOf, routinesOf, typesOf } from './resolve.ts'
import { effectOfSetting } from './settings.ts'
import type { Budget, Surroundings } from './surroundings.ts'

/** Everything that one statement does, as far as its text and the mirror can say. */
export interface Findings {
  readonly kind: string
  readonly kinds: ReadonlySet<string>
  readonly effects: ReadonlySet<Effect>
  readonly read: ReadonlySet<string>
  readonly written: ReadonlySet<string>
  /** Relations that stand behind those: under views, among partitions. */
  readonly behind: ReadonlySet<string>
  /** The same three of relations that a name leads to only if what stands before them on the search path goes. */
  readonly covered: Covered<ReadonlySet<string>>
  readonly columnsRead: ReadonlySet<string>
  readonly columnsWritten: ReadonlySet<string>
  readonly functions: ReadonlySet<string>
  readonly settings: ReadonlySet<string>
  /** It names something that the mirror does not hold: a newer one may know it. */
  readonly unknown: boolean
  /** It runs code, or touches tables, that the text does not show. */
  readonly opaque: boolean
  /** It may change settings that later statements are read by. */
  readonly loose: boolean
  /** A definition behind it could not be read, so what stands there is not known. */
  readonly lost: boolean
  /** It goes through a view, a policy or code of the user's, which may be replaced without that its name changes. */
  readonly through: boolean
  /** A DELETE or UPDATE (also one of a MERGE) that names no condition on the rows, or TRUNCATE. */
  readonly everyRow: boolean
  /** COPY FROM STDIN: the client sends data after it. */
  readonly copiesIn: boolean
  /** The cursor it declares or reads from. */
  readonly declares: string | undefined
  readonly fetches: string | undefined
  /** Why no rule may allow it. */
  readonly unclear: string | undefined
}

export interface Covered<Names> {
  readonly read: Names
  readonly written: Names
  readonly behind: Names
}

/** Column names that one statement is described with; `SELECT *` over wide tables would fill the record. */
const MOST_COLUMNS = 500
/** Descendants of one partitioned table that are named. */
const MOST_BEHIND = 1_000

/** Findings while they are being made. Nothing is ever taken back: a statement does all that is found in it. */
export class Tally implements Findings {
  readonly around: Surroundings
  readonly budget: Budget
  kind = 'unknown'
  readonly kinds = new Set<string>()
  readonly effects = new Set<Effect>()
  readonly read = new Set<string>()
  readonly written = new Set<string>()
  readonly behind = new Set<string>()
  readonly covered = { read: new Set<string>(), written: new Set<string>(), behind: new Set<string>() }
  readonly columnsRead = new Set<string>()
  readonly columnsWritten = new Set<string>()
  readonly functions = new Set<string>()
  readonly settings = new Set<string>()
  unknown = false
  opaque = false
  loose = false
  lost = false
  through = false
  everyRow = false
  copiesIn = false
  declares: string | undefined
  fetches: string | undefined
  unclear: string | undefined
  readonly #implied: Implied

  constructor(around: Surroundings, budget: Budget) {
    this.around = around
    this.budget = budget
    this.#implied = new Implied(around.mirror, {
      runs: (routine) => this.#run(routine),
      checks: (type) => this.#join(around.behind?.ofType(type, budget)),
    })
  }

  /** Parameters come with types that the text does not show. */
  meetsParameters(): void {
    for (const oid of this.around.parameterTypes ?? []) this.#implied.meets(oid)
  }

  /** The first kind is the statement's own. */
  is(kind: string): void {
    if (this.kinds.size === 0) this.kind = kind
    this.kinds.add(kind)
  }

  does(...effects: readonly Effect[]): void {
    for (const effect of effects) this.effects.add(effect)
  }

  doubt(why: string): void {
    this.unclear ??= why
  }

  doesAnything(): void {
    this.does(...EFFECTS)
    this.opaque = true
    this.loose = true
  }

  /** What runs without being written: known only when every type that the statement touches is. */
  finish(): void {
    this.#implied.settle()
    if (this.effects.size === 0) this.does('read')
  }

  reads(rangeVar: Tree): readonly Relation[] | undefined {
    this.does('read')
    return this.#names(rangeVar, 'read')
  }

  writes(rangeVar: Tree): readonly Relation[] | undefined {
    return this.#names(rangeVar, 'written')
  }

  #names(rangeVar: Tree, as: 'read' | 'written'): readonly Relation[] | undefined {
    const into = this[as]
    const isWrite = as === 'written'
    if (!this.around.mirror) {
      into.add(relationName(rangeVar))
      this.#touchesSystem(relationName(rangeVar), isWrite)
      return undefined
    }
    const led = relationsOf(rangeVar, this.around)
    if (led === 'unknown') {
      into.add(relationName(rangeVar))
      // After a fresh look there is no such table, and the server will say so; were there one, nobody knows what it runs.
      this.unknown = true
      this.opaque = true
      return undefined
    }
    this.#meets(led, into, isWrite, this.behind)
    this.#meets(led.covered, this.covered[as], isWrite, this.covered.behind)
    return anyOf(led)
  }

  #meets({ relations, system }: Found, into: Set<string>, isWrite: boolean, behind: Set<string>): void {
    for (const name of system) {
      into.add(name)
      this.#touchesSystem(name, isWrite)
    }
    for (const relation of relations) {
      into.add(quotedName(relation))
      this.#opens(relation, isWrite, behind)
    }
  }

  #touchesSystem(name: string, isWrite: boolean): void {
    const isRead = isCatalogRead(name)
    if (!isWrite) {
      // What others run and what their columns hold is not part of "may read" (design 4).
      if (isRead === false) this.does('admin')
      return
    }
    if (isRead === undefined) return
    this.does('admin')
    this.loose = true
    // UPDATE pg_settings is SET by another name.
    if (/(^|\.)pg_settings$/.test(name)) this.doubt('settings are changed with SET, not by writing to pg_settings')
  }

  /** What comes with a table: its policies, its partitions, the query of a view. */
  #opens(relation: Relation, isWrite: boolean, behind: Set<string>): void {
    for (const column of relation.columns) this.#implied.meets(column.domain ?? column.type)
    this.through ||= relation.kind === 'view' || relation.policies.length > 0 || relation.children.length > 0
    if (relation.kind === 'foreign table') this.#reachesOut()
    // A rule puts other statements in the place of this one.
    if (isWrite && relation.hasRules) this.doesAnything()
    if (relation.definition !== undefined || relation.policies.length > 0) this.#join(this.around.behind?.ofRelation(relation, this.budget), behind)
    else if (relation.kind === 'view') this.doesAnything()
    this.#opensChildren(relation, behind)
  }

  #opensChildren(relation: Relation, behind: Set<string>): void {
    const waiting = [...relation.children]
    for (let oid = waiting.pop(); oid !== undefined; oid = waiting.pop()) {
      const child = this.around.mirror?.relationByOid(oid)
      if (!child) continue
      const name = quotedName(child)
      if (behind.has(name)) continue
      if (behind.size < MOST_BEHIND) behind.add(name)
      else this.opaque = true
      if (child.kind === 'foreign table') this.#reachesOut()
      waiting.push(...child.children)
    }
  }

  /** Another server runs it, with whatever a wrapper makes of it. */
  #reachesOut(): void {
    this.does('read', 'egress')
    this.opaque = true
  }

  /** What a definition does counts as if it stood in the statement; one that cannot be read may do anything. */
  #join(found: Findings | undefined, behind = this.behind): void {
    if (!found || found.unclear !== undefined) {
      this.lost = true
      this.doesAnything()
      return
    }
    this.does(...found.effects)
    for (const name of [...found.read, ...found.written, ...found.behind]) behind.add(name)
    for (const name of found.functions) this.functions.add(name)
    for (const name of found.settings) this.settings.add(name)
    this.opaque ||= found.opaque
    this.loose ||= found.loose
    this.lost ||= found.lost
    this.through ||= found.through
    this.unknown ||= found.unknown
  }

  /** The statement below an EXPLAIN: planned, and not run. */
  plans(inner: Findings): void {
    const runs = inner.opaque || [...inner.functions].some((name) => RUN_BY_PLANNER.has(name.slice(name.lastIndexOf('.') + 1)))
    this.does('read', ...(runs ? inner.effects : []))
    for (const name of [...inner.read, ...inner.written]) this.read.add(name)
    for (const name of [...inner.columnsRead, ...inner.columnsWritten]) this.columnsRead.add(name)
    for (const name of inner.behind) this.behind.add(name)
    for (const name of [...inner.covered.read, ...inner.covered.written]) this.covered.read.add(name)
    for (const name of inner.covered.behind) this.covered.behind.add(name)
    for (const name of inner.functions) this.functions.add(name)
    for (const name of inner.settings) this.settings.add(name)
    this.opaque ||= inner.opaque
    this.loose ||= inner.loose
    this.through ||= inner.through
    this.unknown ||= inner.unknown
    if (inner.unclear !== undefined) this.doubt(inner.unclear)
  }

  /** `*` is every column of them. */
  columns(owners: readonly Relation[], name: string, written: boolean): void {
    const into = written ? this.columnsWritten : this.columnsRead
    for (const relation of owners) {
      for (const column of name === '*' ? relation.columns : [{ name }]) {
        if (into.size >= MOST_COLUMNS) return
        into.add(`${quotedName(relation)}.${quotedName({ name: column.name })}`)
      }
    }
  }

  /** A table that is made here: of the session alone, or for everybody. */
  makes(into: Tree | undefined): void {
    const relation = into?.rel as Tree | undefined
    this.does('write')
    if (relation?.relpersistence !== 't') this.does('admin')
    // The first temporary table puts its schema before all others.
    else this.loose = true
    if (relation) this.founds(relation)
    else this.doubt('the table that it makes is not named')
  }

  /**
   * A table that is not there yet, so that no mirror knows it: it comes to be in the first schema of the path that is not the system's, and
   * in the next one when that is dropped while this waits (measured: the server looks again, and makes it there).
   */
  founds(rangeVar: Tree): void {
    if (!this.around.mirror) {
      this.writes(rangeVar)
      return
    }
    const own = rangeVar.schemaname ?? (rangeVar.relpersistence === 't' ? 'pg_temp' : undefined)
    const [schema, ...next] = own === undefined ? (this.around.path ?? []).filter((name) => !name.startsWith('pg_')) : [String(own)]
    this.written.add(relationName(schema === undefined ? rangeVar : { ...rangeVar, schemaname: schema }))
    if (!this.around.asOfNow) for (const other of next) this.covered.written.add(relationName({ ...rangeVar, schemaname: other }))
    if (schema === undefined) this.opaque = true
  }

  /** A definition speaks of it: nothing that comes with a table runs for that. */
  mentions(rangeVar: Tree): void {
    const led = this.around.mirror ? relationsOf(rangeVar, this.around) : undefined
    if (led === undefined) this.writes(rangeVar)
    else if (led === 'unknown') this.founds(rangeVar)
    else {
      this.#isMentioned(led, this.written)
      this.#isMentioned(led.covered, this.covered.written)
    }
  }

  #isMentioned({ relations, system }: Found, into: Set<string>): void {
    for (const relation of relations) into.add(quotedName(relation))
    for (const name of system) {
      into.add(name)
      this.#touchesSystem(name, true)
    }
  }

  /** A call as it is written, or `alias.function` in the form of a column. */
  calls(path: readonly string[], args: readonly unknown[]): void {
    const { around } = this
    const name = path.at(-1) ?? ''
    const builtin = reachesBuiltin(path, around)
    const routines = routinesOf(path, around)
    const types = builtin && path.length > 1 ? [] : typesOf(path, around)
    if (args.length === 1) for (const type of types) this.#implied.casts(type)
    if (builtin || routines.length === 0) this.functions.add(path.join('.'))
    for (const routine of routines) {
      // Of functions that share a name with one of PostgreSQL's, only those count that the arguments can lead to.
      if (builtin) this.#implied.mayRun(routine, args)
      else this.#implied.runs(routine)
    }
    if (builtin) this.#callsBuiltin(name, args)
    else if (around.mirror && path.length === 2 && path[0] === 'information_schema' && isStandardRead(name)) this.does('read')
    else if (routines.length === 0 && !(types.length > 0 && args.length === 1)) {
      this.#counts(effectsOfFunction(name, false))
      this.unknown ||= around.mirror !== undefined
    }
  }

  /** What newer servers read as syntax, and this one as a call of whatever has that name. */
  callsAny(name: string): void {
    const routines = routinesOf([name], this.around)
    for (const routine of routines) this.#implied.runs(routine)
    if (routines.length === 0 && !reachesBuiltin([name], this.around)) this.#counts(effectsOfFunction(name, false))
  }

  #callsBuiltin(name: string, args: readonly unknown[]): void {
    if (name === 'set_config') {
      const setting = textOf(args[0])
      // With a computed name it could switch off what this very parse relies on.
      if (setting === undefined) this.doubt('the setting that set_config changes is not written out')
      else this.sets(setting, textOf(args[1]) ?? null)
      return
    }
    if (isTypeFunction(name) && args.length === 1) this.#implied.castsToBuiltin()
    if (name.includes('json')) this.makesJson()
    this.#counts(effectsOfFunction(name, true))
  }

  /** `OPERATOR(app.+)` runs whatever function that schema says; an unqualified one, what the path and the operands lead to. */
  operates(path: readonly string[], operands: readonly unknown[]): void {
    if (path.length === 0) return
    const operators = operatorsOf(path, this.around)
    for (const operator of operators) this.#implied.mayRun(operator, operands, path.length === 1 ? path[0] : undefined)
    if (path.length === 1 || path[0] === 'pg_catalog' || operators.length > 0) return
    this.functions.add(path.join('.'))
    this.#counts(effectsOfFunction(path.at(-1)!, false))
    this.unknown ||= this.around.mirror !== undefined
  }

  /** A type is named: a value becomes one of it. */
  casts(typeName: Tree): void {
    const path = namesOf(typeName.names)
    const types = typesOf(path, this.around)
    for (const type of types) this.#implied.casts(type)
    if (types.length > 0) return
    this.#implied.castsToBuiltin()
    if (!this.around.mirror || path.length < 2 || /^(pg_catalog|information_schema)$/.test(path.at(-2)!)) return
    this.unknown = true
    this.opaque = true
  }

  /** Where a type has a cast to json, even one that must be asked for, everything that makes JSON of a value goes through it. */
  makesJson(): void {
    this.#implied.castsToBuiltin()
  }

  /** A function of the user's runs. */
  #run(routine: Routine): void {
    for (const one of routine.parts?.length ? routine.parts : [routine]) this.#counts(effectsOfRoutine(one, this.around))
    this.functions.add(quotedName(routine))
    this.through = true
  }

  #counts({ effects, opaque, loose }: FunctionEffects): void {
    this.does(...effects)
    this.opaque ||= opaque
    this.loose ||= loose ?? opaque
  }

  /** `value` as in {@link effectOfSetting}. */
  sets(name: string, value: string | null | undefined): void {
    const setting = name.toLowerCase()
    this.settings.add(setting)
    const { effects, unclear } = effectOfSetting(setting, value, this.around.ceilings)
    this.does(...effects)
    // Names lead elsewhere once the search path is moved (B37).
    this.loose ||= effects.includes('admin') || setting === 'search_path'
    if (unclear !== undefined) this.doubt(unclear)
  }
}
