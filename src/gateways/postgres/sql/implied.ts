import type { Mirror, Routine, UserCast, UserType } from '../mirror/types.ts'
import { isTrusted } from './functions.ts'
import { listOf, unwrap } from './nodes.ts'

/** What the findings do with what is found here. */
interface Found {
  runs(routine: Routine): void
  checks(type: UserType): void
}

/**
 * Code of the user's that no name in the statement shows: the functions behind operators and overloaded names, casts
 * that happen unasked, checks of domains. Which of them can run depends on the types of what the statement touches, and these
 * are collected first: `=` means citext's own function only where something is citext. Where the rules of PostgreSQL for
 * choosing among candidates are finer than ours, ours count more.
 */
export class Implied {
  readonly #mirror: Mirror | undefined
  readonly #found: Found
  /** Types of the user's that values in this statement have, or may get unasked. */
  readonly #present = new Set<number>()
  readonly #pending: { readonly routine: Routine; readonly operands: readonly unknown[]; readonly operator: string | undefined }[] = []
  readonly #counted = new Set<Routine>()
  #toBuiltin = false

  constructor(mirror: Mirror | undefined, found: Found) {
    this.#mirror = mirror
    this.#found = found
  }

  /** A value of this type is in reach. */
  meets(oid: number): void {
    if (this.#present.has(oid)) return
    const type = this.#mirror?.typeByOid(oid)
    if (!type) return
    this.#present.add(oid)
    for (const part of type.parts) this.meets(part)
  }

  /** A value becomes one of this type because the statement says so. */
  casts(type: UserType): void {
    this.meets(type.oid)
    for (const routine of this.#input(type)) this.runs(routine)
    for (const cast of this.#mirror?.casts ?? []) {
      if (cast.runs && (cast.target === type.oid || cast.source === type.oid)) this.mayRun(cast.runs, [{}])
    }
  }

  /** Something becomes one of PostgreSQL's own types because the statement says so. */
  castsToBuiltin(): void {
    this.#toBuiltin = true
  }

  runs(routine: Routine): void {
    if (this.#counted.has(routine)) return
    this.#counted.add(routine)
    this.#found.runs(routine)
    for (const oid of routine.takes) this.meets(oid)
    if (routine.returns !== undefined) this.meets(routine.returns)
  }

  /** Runs if the operands can be what it takes. `operator`: its name, when it is written without a schema. */
  mayRun(routine: Routine, operands: readonly unknown[], operator?: string): void {
    this.#pending.push({ routine, operands, operator })
  }

  settle(): void {
    const mirror = this.#mirror
    if (!mirror) return
    const checked = new Set<number>()
    for (let before = -1; before !== this.#present.size + this.#counted.size; ) {
      before = this.#present.size + this.#counted.size
      for (const oid of this.#present) {
        const type = mirror.typeByOid(oid)!
        if (type.checks.length === 0 || checked.has(oid)) continue
        checked.add(oid)
        this.#found.checks(type)
      }
      for (const cast of mirror.casts) this.#consider(cast)
      for (const { routine, operands, operator } of this.#pending) if (this.#fits(routine, operands, operator)) this.runs(routine)
    }
  }

  #consider(cast: UserCast): void {
    const unasked = cast.unasked === 'anywhere'
    const from = this.#isUsers(cast.source)
    const to = this.#isUsers(cast.target)
    if (from && !this.#present.has(cast.source)) return
    if (unasked && from && to) this.meets(cast.target)
    if (!cast.runs) return
    if (!(to ? unasked && this.#present.has(cast.target) : unasked || this.#toBuiltin) || !(from || to)) return
    // Only a superuser makes functions in C: the cast of an extension's type is as much PostgreSQL as the type.
    if (unasked && isTrusted(cast.runs)) return
    this.runs(cast.runs)
  }

  #fits(routine: Routine, operands: readonly unknown[], operator: string | undefined): boolean {
    // PostgreSQL 13 has operators that stand behind their operand, and ours reads them as something else.
    if (!('operator' in routine) && !isCallableWith(routine, operands.length)) return false
    if (routine.takes.every((oid) => !this.#isUsers(oid))) return true
    const named = operands.some((operand) => unwrap(operand)[0] === 'NamedArgExpr')
    const untyped = operands.map(isUntyped)
    // PostgreSQL prefers text for what has no type, and has these operators for text.
    if (
      operator !== undefined &&
      TEXT_OPERATORS.has(operator) &&
      operands.length > 0 &&
      untyped.every(Boolean) &&
      !routine.takes.some((oid) => this.#present.has(oid))
    )
      return false
    return routine.takes.every((oid, i) => named || untyped[Math.min(i, untyped.length - 1)] === true || this.#canBe(oid))
  }

  /** Whether a value of the statement can be, or become unasked, one of this type. */
  #canBe(oid: number): boolean {
    const type = this.#mirror!.typeByOid(oid)
    if (!type || this.#present.has(oid)) return true
    // Any row may become one of a row type, and any number a domain over numbers.
    if (type.kind === 'row') return true
    if (type.kind === 'domain' || type.kind === 'array') return type.parts.every((part) => this.#canBe(part))
    return this.#mirror!.casts.some(
      (cast) => cast.target === oid && cast.unasked === 'anywhere' && (!this.#isUsers(cast.source) || this.#present.has(cast.source)),
    )
  }

  #isUsers(oid: number): boolean {
    return this.#mirror!.typeByOid(oid) !== undefined
  }

  #input(type: UserType): readonly Routine[] {
    return type.runs.filter((routine) => !isTrusted(routine))
  }
}

/** A call as `rank(1) WITHIN GROUP (ORDER BY x)` gives more than stands in its brackets. */
const isCallableWith = ({ takes, least = takes.length, variadic = false, kind }: Routine, count: number) =>
  kind === 'aggregate' || (count >= least && (variadic || count <= takes.length))

/** Operators that pg_catalog has for two texts. */
const TEXT_OPERATORS: ReadonlySet<string> = new Set('= <> < > <= >= ~ ~* !~ !~* ~~ ~~* !~~ !~~* || ^@'.split(' '))

/** A constant in quotes, NULL, or a parameter: it becomes whatever stands on the other side. */
function isUntyped(operand: unknown): boolean {
  const [type, tree] = unwrap(operand)
  switch (type) {
    case 'ParamRef':
      return true
    case 'A_Const':
      return tree.ival === undefined && tree.fval === undefined && tree.boolval === undefined && tree.bsval === undefined
    case 'RowExpr':
      return listOf(tree.args).some(isUntyped)
    case 'List':
      return listOf(tree.items).some(isUntyped)
    default:
      return false
  }
}
