import { EFFECTS, type Effect } from '../../../policy/types.ts'
import { effectsOfFunction } from './functions.ts'
import { type Tree, textOf } from './nodes.ts'
import { isCatalogRead, relationName } from './relations.ts'
import { type Ceilings, effectOfSetting } from './settings.ts'

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

/** Findings while they are being made. Nothing is ever taken back: a statement does all that is found in it. */
export class Tally implements Findings {
  readonly around: Surroundings
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
    this.around = around
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

  reads(relation: Tree): void {
    const name = relationName(relation)
    this.read.add(name)
    this.does('read')
    // What others run and what their columns hold is not part of "may read" (design 4).
    if (isCatalogRead(name) === false) this.does('admin')
  }

  writes(relation: Tree): void {
    const name = relationName(relation)
    this.written.add(name)
    if (isCatalogRead(name) === undefined) return
    this.does('admin')
    this.loose = true
    // UPDATE pg_settings is SET by another name.
    if (/(^|\.)pg_settings$/.test(name)) this.doubt('settings are changed with SET, not by writing to pg_settings')
  }

  /** A table that is made here: of the session alone, or for everybody. */
  makes(into: Tree | undefined): void {
    const relation = into?.rel as Tree | undefined
    this.does('write')
    if (relation?.relpersistence !== 't') this.does('admin')
    if (relation) this.writes(relation)
    else this.doubt('the table that it makes is not named')
  }

  calls(path: readonly string[], args: readonly unknown[]): void {
    const name = path.at(-1) ?? ''
    this.functions.add(path.join('.'))
    const builtin = path.length === 2 ? path[0] === 'pg_catalog' : path.length === 1 && this.around.builtinFirst
    if (builtin && name === 'set_config') {
      const setting = textOf(args[0])
      // With a computed name it could switch off what this very parse relies on.
      if (setting === undefined) this.doubt('the setting that set_config changes is not written out')
      else this.sets(setting, textOf(args[1]) ?? null)
      return
    }
    const { effects, opaque } = effectsOfFunction(name, builtin)
    this.does(...effects)
    this.opaque ||= opaque
    this.loose ||= opaque
  }

  /** `value` as in {@link effectOfSetting}. */
  sets(name: string, value: string | null | undefined): void {
    const setting = name.toLowerCase()
    this.settings.add(setting)
    const { effects, unclear } = effectOfSetting(setting, value, this.around.ceilings)
    this.does(...effects)
    this.loose ||= effects.includes('admin')
    if (unclear !== undefined) this.doubt(unclear)
  }
}
