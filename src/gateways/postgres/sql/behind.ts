import type { Mirror, Relation, UserType } from '../mirror/types.ts'
import type { Findings } from './findings.ts'
import { parseSql } from './parse.ts'
import { entryOf, NO_SCOPE, type Scope } from './scope.ts'
import type { Behind, Budget, Surroundings } from './surroundings.ts'
import { walkExpression, walkStatement } from './walk.ts'

/** How deep definitions may lie in one another, and how many new ones one statement may make us read. */
const DEEPEST = 24
const MOST_NEW = 300
/** Measured: 64 KiB are parsed in 50 ms at most, and nobody else is served meanwhile. */
const LONGEST_DEFINITION = 64 * 1024

export const newBudget = (): Budget => ({ left: MOST_NEW, open: new Set(), met: new Set(), isShort: false })

/** What stands behind names of one mirror: each definition is read once, when a statement first needs it. */
export function makeBehind(mirror: Mirror, around: Omit<Surroundings, 'path' | 'mirror' | 'behind'>): Behind {
  const known = new Map<string, Findings | undefined>()
  const behind: Behind = {
    ofRelation: (relation, budget) =>
      remember(`relation ${relation.oid}`, budget, () => {
        const found = relation.policies.map((policy) => expression(policy, scopeOf(relation), budget))
        if (relation.definition !== undefined) {
          const inner = query(relation.definition, budget)
          found.push(relation.kind === 'materialized view' ? stored(inner) : inner)
        }
        return together(found)
      }),
    ofType: (type: UserType, budget) =>
      remember(`type ${type.oid}`, budget, () => together(type.checks.map((check) => expression(check, NO_SCOPE, budget)))),
  }
  // Definitions are written with every name in full, so that only what is not written out is pg_catalog's.
  const inside: Surroundings = { ...around, mirror, path: ['pg_catalog'], behind }

  function remember(key: string, budget: Budget, read: () => Findings | undefined): Findings | undefined {
    if (known.has(key)) return known.get(key)
    if (budget.open.has(key)) {
      budget.met.add(key)
      return NOTHING
    }
    if (budget.left <= 0 || budget.open.size >= DEEPEST) {
      budget.isShort = true
      return undefined
    }
    budget.left--
    budget.open.add(key)
    const found = read()
    budget.open.delete(key)
    budget.met.delete(key)
    if (budget.met.size === 0 && !budget.isShort) known.set(key, found)
    return found
  }

  function query(text: string, budget: Budget): Findings | undefined {
    const tree = parsed(text)
    return tree && walkStatement(tree, inside, budget)
  }

  function expression(text: string, scope: Scope, budget: Budget): Findings | undefined {
    const tree = parsed(`SELECT ${text}`)
    return tree && walkExpression(tree, inside, budget, scope)
  }

  return behind
}

function parsed(text: string) {
  if (text.length > LONGEST_DEFINITION) return undefined
  const result = parseSql(text)
  return 'failure' in result || result.statements.length !== 1 ? undefined : result.statements[0]!.tree
}

const scopeOf = (relation: Relation): Scope => ({
  names: NO_SCOPE.names,
  range: { entries: [entryOf({ relname: relation.name }, [relation])], outer: undefined },
})

/** What a materialized view shows was computed when it was refreshed: its query runs no more, and what it was made of still shows: where that is not known, it may be anything. */
const stored = (found: Findings | undefined): Findings | undefined =>
  found && !found.lost ? { ...NOTHING, read: found.read, behind: found.behind } : undefined

const NOTHING: Findings = {
  kind: 'select',
  kinds: new Set(),
  effects: new Set(),
  read: new Set(),
  written: new Set(),
  behind: new Set(),
  // Definitions are written with every name in full.
  covered: { read: new Set(), written: new Set(), behind: new Set() },
  columnsRead: new Set(),
  columnsWritten: new Set(),
  functions: new Set(),
  settings: new Set(),
  unknown: false,
  opaque: false,
  loose: false,
  lost: false,
  through: false,
  everyRow: false,
  copiesIn: false,
  declares: undefined,
  fetches: undefined,
  unclear: undefined,
}

/** Undefined as soon as one of them cannot be read. */
function together(all: readonly (Findings | undefined)[]): Findings | undefined {
  if (all.length === 1) return all[0]
  const union = <T>(of: (found: Findings) => ReadonlySet<T>) => new Set(all.flatMap((found) => [...of(found!)]))
  if (all.some((found) => !found)) return undefined
  return {
    ...NOTHING,
    effects: union((found) => found.effects),
    read: union((found) => found.read),
    written: union((found) => found.written),
    behind: union((found) => found.behind),
    functions: union((found) => found.functions),
    settings: union((found) => found.settings),
    unknown: all.some((found) => found!.unknown),
    opaque: all.some((found) => found!.opaque),
    loose: all.some((found) => found!.loose),
    lost: all.some((found) => found!.lost),
    through: all.some((found) => found!.through),
    unclear: all.find((found) => found!.unclear !== undefined)?.unclear,
  }
}
