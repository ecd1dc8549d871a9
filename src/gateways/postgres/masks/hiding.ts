import type { Mirror, Relation, Routine } from '../mirror/types.ts'
import { parseSql } from '../sql/parse.ts'
import { touched } from './expressions.ts'
import { leastShown, type MaskKeys } from './keys.ts'
import { type Hiding, type Look, Misuse } from './look.ts'
import { queries } from './query.ts'
import { type Col, NO_CTES, type Output, type Scope } from './scope.ts'
import { mentions, namesIn } from './tells.ts'
import type { Hidden, MaskForm } from './types.ts'

/** Views over views deeper than this are not followed. */
const DEEPEST = 32

/** What a mask hides in every relation of a database: in the tables it names, their partitions, and the views over them. */
export class Hidings {
  readonly #mirror: Mirror
  readonly #keys: MaskKeys
  readonly #isReviewed: (routine: Routine) => boolean
  readonly #known = new Map<number, Hiding>()
  #depth = 0

  constructor(mirror: Mirror, keys: MaskKeys, isReviewed: (routine: Routine) => boolean) {
    this.#mirror = mirror
    this.#keys = keys
    this.#isReviewed = isReviewed
  }

  of(relation: Relation): Hiding {
    const known = this.#known.get(relation.oid)
    if (known) return known
    // A view can only name itself through a rule that was put there by force.
    this.#known.set(relation.oid, closedFor(relation, 'it reads itself'))
    const hiding = relation.kind === 'view' || relation.kind === 'materialized view' ? this.#view(relation) : this.#table(relation)
    this.#known.set(relation.oid, hiding)
    return hiding
  }

  #table(relation: Relation): Hiding {
    const family = this.#family(relation)
    if (!family) return closedFor(relation, 'a table that it is part of is not known here')
    const direct = relation.columns.map(({ name }) => strictest(family.map((one) => this.#keys.formOf(one, name))))
    const hidden = new Set(relation.columns.flatMap(({ name }, i) => (direct[i] ? [name] : [])))
    const columns = relation.columns.map(
      ({ name, type, generated }, i): Col => ({ name, type, hides: direct[i] ?? (isComputedFrom(generated, hidden) ? 'null' : undefined) }),
    )
    const lost = family.map((one) => this.#keys.lost(one)).find((key) => key !== undefined)
    const closed =
      (lost === undefined ? undefined : `the rule hides ${lost}, and there is no such column (any more)`) ??
      this.#rowsTell(relation, family, columns, hidden)
    return { columns, closed, guarded: hidden.size > 0 || closed !== undefined }
  }

  /** Where which rows there are depends on what is hidden, counting them tells. */
  #rowsTell(relation: Relation, family: readonly Relation[], columns: readonly Col[], hidden: ReadonlySet<string>): string | undefined {
    if (hidden.size === 0) return undefined
    const key = family.find((one) => one.partitionKey !== undefined && [...hidden].some((name) => mentions(one.partitionKey!, name)))
    if (key) return 'its partitions are made by a hidden column'
    const table = { alias: relation.name, schema: relation.schema, columns, open: false }
    const scope: Scope = { tables: [table], columns, open: false, outer: undefined, ctes: NO_CTES }
    for (const policy of relation.policies) {
      const parsed = parseSql(`SELECT ${policy}`)
      let tells = 'failure' in parsed
      if (!('failure' in parsed)) {
        const look = this.#lookOf(() => {})
        tells = parsed.statements.length !== 1 || touchedIn(parsed.statements[0]!.tree, scope, look)
      }
      if (tells) return 'a row policy of it depends on a hidden column'
    }
    return undefined
  }

  #view(relation: Relation): Hiding {
    const parsed = relation.definition === undefined ? { failure: 'no definition' } : parseSql(relation.definition)
    if ('failure' in parsed || parsed.statements.length !== 1) return closedFor(relation, 'it cannot be read here')
    if (this.#depth >= DEEPEST) return closedFor(relation, 'it stands on too many other views')
    let closed: string | undefined
    let guarded = false
    const note = (why: string) => {
      closed ??= `${why}, in the view`
    }
    const look = this.#lookOf(note, () => {
      guarded = true
    })
    let output: Output
    this.#depth++
    try {
      output = look.output(parsed.statements[0]!.tree, undefined)
    } catch (error) {
      if (!(error instanceof Misuse)) throw error
      return closedFor(relation, error.message)
    } finally {
      this.#depth--
    }
    const lost = this.#keys.lost(relation)
    if (lost !== undefined) closed ??= `the rule hides ${lost}, and there is no such column (any more)`
    if (output.open || output.columns.length !== relation.columns.length) {
      if (output.columns.some((column) => column.hides)) closed ??= 'its columns cannot be followed'
      output = { columns: relation.columns.map(({ name, type }) => ({ name, type, hides: undefined })), open: false }
    }
    const columns = relation.columns.map(({ name, type }, i): Col => {
      const below = output.columns[i]!.hides
      const form = this.#keys.formOf(relation, name)
      return { name, type, hides: below === 'unshowable' || form === undefined ? below : strictest([below, form]) }
    })
    const hidesMore = columns.some(({ hides }, i) => hides && !output.columns[i]!.hides)
    return { columns, closed, guarded: guarded || closed !== undefined || columns.some((column) => column.hides), hidesMore }
  }

  #lookOf(misuse: (why: string) => void, guard = () => {}): Look {
    const look: Look = {
      mirror: this.#mirror,
      // Definitions are written with every name in full.
      path: ['pg_catalog'],
      hidingOf: (relation) => this.of(relation),
      isReviewed: this.#isReviewed,
      misuse,
      output: queries(() => look),
      isView: true,
      guard,
      carry: () => {},
      carries: false,
    }
    return look
  }

  /** Itself, what it is a part of, and its parts: rows of all of these can come out under its name, or its rows under theirs. */
  #family(relation: Relation): readonly Relation[] | undefined {
    const all = new Map([[relation.oid, relation]])
    for (const side of ['parents', 'children'] as const) {
      const queue = [relation]
      for (let one = queue.pop(); one; one = queue.pop()) {
        for (const oid of one[side]) {
          const next = this.#mirror.relationByOid(oid)
          if (!next) return undefined
          if (all.has(oid)) continue
          all.set(oid, next)
          queue.push(next)
        }
      }
    }
    return [...all.values()]
  }
}

/** Every ColumnRef under the SELECT that was put around an expression. */
function touchedIn(tree: Readonly<Record<string, unknown>>, scope: Scope, look: Look): boolean {
  const { targetList } = tree.SelectStmt as Record<string, unknown>
  return touched(targetList, scope, look) !== undefined
}

const closedFor = (relation: Relation, why: string): Hiding => ({
  columns: relation.columns.map(({ name, type }) => ({ name, type, hides: 'unshowable' as const })),
  closed: why,
  guarded: true,
})

function strictest<T extends Hidden>(forms: readonly (T | undefined)[]): T | undefined {
  return forms.reduce<T | undefined>(
    (before, form) => (before === undefined ? form : form === undefined ? before : (leastShown(before as MaskForm, form as MaskForm) as T)),
    undefined,
  )
}

/** It holds what the hidden column holds, in another form; when it cannot be read, nobody can say what it holds. */
function isComputedFrom(generated: string | undefined, hidden: ReadonlySet<string>): boolean {
  if (generated === undefined || hidden.size === 0) return false
  const names = namesIn(generated)
  return names === undefined || names.some((name) => hidden.has(name))
}
