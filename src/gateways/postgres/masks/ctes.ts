import { listOf, namesOf, type Tree, unwrap } from '../sql/nodes.ts'
import { renamedHere } from './from.ts'
import { type Look, Misuse, named } from './look.ts'
import { type Col, type Ctes, NO_CTES, type Output, type Scope } from './scope.ts'
import { united } from './union.ts'

/** More rounds than this until a recursion hides the same in each are not waited for. */
const MOST_ROUNDS = 8
/** Each sees those before it: with thousands that takes seconds. */
const MOST_CTES = 500

/** The names that a WITH adds. With RECURSIVE they all see each other, so each is looked at when it is first named. */
export function ctesOf(clause: Tree | undefined, outer: Scope | undefined, look: Look, around: Ctes = NO_CTES): Ctes {
  if (!clause) return around
  const recursive = clause.recursive === true
  if (listOf(clause.ctes).length > MOST_CTES) throw new Misuse('it holds too many queries in WITH')
  const inner = new Map(around)
  for (const part of listOf(clause.ctes).map((wrapped) => unwrap(wrapped)[1])) {
    const name = String(part.ctename)
    const visible = recursive ? inner : new Map(inner)
    inner.set(
      name,
      once(() => cteOutput(part, name, outer, look, visible, recursive), look),
    )
  }
  // What nobody names is looked at all the same.
  for (const part of listOf(clause.ctes)) inner.get(String(unwrap(part)[1].ctename))!()
  return inner
}

function once(make: () => Output, look: Look): () => Output {
  let made: Output | undefined
  let making = false
  return () => {
    if (made) return made
    if (making) {
      look.misuse('queries of WITH name each other in a circle')
      return { columns: [], open: true }
    }
    making = true
    made = make()
    return made
  }
}

function cteOutput(part: Tree, name: string, outer: Scope | undefined, look: Look, ctes: Ctes, recursive: boolean): Output {
  const names = namesOf(part.aliascolnames)
  const [type, query] = unwrap(part.ctequery)
  const recurs = recursive && type === 'SelectStmt' && query.op === 'SETOP_UNION'
  const output = recurs ? recursion(query, name, names, outer, look, ctes) : renamedHere(look.output(part.ctequery, outer, ctes), names, look)
  return withMarks(part, output, look)
}

/** `base UNION ALL step`: what the step hides becomes part of what it reads, so it is looked at until nothing changes any more. */
function recursion(query: Tree, name: string, names: readonly string[], outer: Scope | undefined, look: Look, ctes: Ctes): Output {
  const { withClause, ...rest } = query
  const visible = ctesOf(withClause as Tree | undefined, outer, look, ctes)
  let known = renamedHere(look.output({ SelectStmt: query.larg }, outer, visible), names, look)
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const before = known
    const output = look.output({ SelectStmt: rest }, outer, new Map([...visible, [name, () => before]]))
    known = renamedHere(output, names, look)
    if (sameHidden(known, before)) return known
  }
  look.misuse('a recursion hides something else in each round')
  return united(known, known, look)
}

const sameHidden = (a: Output, b: Output) =>
  a.open === b.open && a.columns.length === b.columns.length && a.columns.every((column, i) => column.hides === b.columns[i]!.hides)

/** SEARCH and CYCLE compare columns, and add some. */
function withMarks(part: Tree, output: Output, look: Look): Output {
  const search = part.search_clause as Tree | undefined
  const cycle = part.cycle_clause as Tree | undefined
  for (const name of [...namesOf(search?.search_col_list), ...namesOf(cycle?.cycle_col_list)]) {
    const hidden = output.columns.find((column) => column.name === name && column.hides)
    if (hidden) look.misuse(`${named(hidden.name)} is compared by SEARCH or CYCLE`)
  }
  const added = [search?.search_seq_column, cycle?.cycle_mark_column, cycle?.cycle_path_column].filter((name) => typeof name === 'string')
  return { ...output, columns: [...output.columns, ...added.map((name): Col => ({ name, hides: undefined, type: 0 }))] }
}
