import { VERBS } from '../access/administration.ts'
import type { World } from '../documents/world.ts'
import { ChaperoneError } from '../errors.ts'
import type { Policy } from '../policy/compile.ts'
import type { RuleSpec } from '../policy/rule.ts'
import type { Action, Resource } from '../policy/types.ts'
import type { ApiParts } from './parts.ts'

/** A question that can be asked for anybody. */
export interface Probe {
  readonly action: Action
  readonly resource: string
  /** `call write_file`, `UPDATE public.* as app` */
  readonly what: string
}

export interface Probes {
  readonly probes: readonly Probe[]
  /** what cannot be asked about, in sentences */
  readonly notes: readonly string[]
}

/** Of one resource (rule 11). */
const MOST_PROBES = 500

/**
 * The questions that can be made up without anybody having asked them: every verb of Chaperone; every tool of an MCP server that was
 * seen, with its arguments left open; and for databases what the rules of both policies name.
 */
export async function probesOf(parts: ApiParts, world: World, policies: readonly Policy[]): Promise<Probes> {
  const notes = new Set<string>()
  const probes: Probe[] = []
  const add = async (kind: string, resource: Resource, what: string, ask: object, shape: (action: Action) => Action = (action) => action) => {
    const describe = parts.describe[kind]
    if (!describe) throw new ChaperoneError('internal', `Nothing describes actions of kind ${kind}.`)
    const actions = [await describe({ kind, resource: resource.name, ...ask } as never, NOTHING)].flat()
    for (const action of actions)
      probes.push({ action: shape(action), resource: kind === 'chaperone' ? 'chaperone' : `${kind}/${resource.name}`, what })
  }
  for (const verb of VERBS) await add('chaperone', parts.chaperone, `verb ${verb}`, { verb })
  const state = parts.state.current()
  for (const { name } of world.ofKind('mcp')) {
    const found = state.find('mcp', name)
    const tools = found ? (await parts.pins.rows(found.resource.id)).filter(({ kind }) => kind === 'tool') : []
    if (!found || tools.length === 0) {
      notes.add(`mcp/${name}: nothing was seen of it yet, so its tools are not known.`)
      continue
    }
    if (tools.length > MOST_PROBES) notes.add(`mcp/${name}: it has ${tools.length} tools; ${MOST_PROBES} were asked about.`)
    for (const { name: tool } of tools.slice(0, MOST_PROBES)) await add('mcp', found.resource, `call ${tool}`, { tool }, openArguments)
  }
  for (const { name } of world.ofKind('postgres')) {
    const found = state.find('postgres', name)
    if (!found) notes.add(`postgres/${name}: it is not applied yet, so nothing about it was asked.`)
    else
      for (const { what, ask, madeUp } of statementsOf(found.resource, policies, notes).slice(0, MOST_PROBES))
        await add('postgres', found.resource, what, ask, madeUp ? plainTable : undefined)
  }
  return { probes, notes: [...notes] }
}

/** Nobody is connected in these questions; a session that cannot write is no more sure than one that can. */
const NOTHING = () => ({ verdict: 'deny', reason: 'no_rule', link: '', obligations: {}, visible: false, message: '' }) as const

/** As it is asked whether a tool is listed: what some arguments allow counts as allowed, what only some refuse does not as refused. */
const openArguments = (action: Action): Action => ({ ...action, facts: { ...action.facts, args: undefined, listing: true }, partial: true })

/** The catalog has no table of a made-up name, and what is not in it may run anything. It stands for plain ones: no trigger, no view. */
const plainTable = (action: Action): Action => ({ ...action, facts: { ...action.facts, opaque: false } })
/** These are opaque whatever the table is. */
const OPAQUE = new Set(['truncate', 'drop'])
const SOME_TABLE = 'public.some_table'

const STATEMENTS: Readonly<Record<string, (table: string) => string>> = {
  select: (table) => `select * from ${table}`,
  insert: (table) => `insert into ${table} default values`,
  update: (table) => `update ${table} set id = 1 where id = 1`,
  delete: (table) => `delete from ${table} where id = 1`,
  truncate: (table) => `truncate ${table}`,
  drop: (table) => `drop table ${table}`,
}

const listOf = (value: unknown): readonly string[] =>
  typeof value === 'string' ? [value] : Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []

interface Statement {
  readonly what: string
  readonly ask: object
  readonly madeUp: boolean
}

/** One of each kind of statement, for every database, database user and table that a rule about this resource names. */
function statementsOf(resource: Resource, policies: readonly Policy[], notes: Set<string>): readonly Statement[] {
  const rules = policies.flatMap((policy) => [
    ...[...policy.roles.values()].flatMap((role) => Object.values(role.kinds.get('postgres') ?? {})),
    ...Object.values(policy.guardrails.get('postgres') ?? {}),
  ])
  const specs: RuleSpec[] = [...new Map(rules.flatMap(({ all }) => all.map((rule) => [rule.ref.digest, rule.spec] as const))).values()]
  const words = (key: string, other: string) => {
    const found = new Set(specs.flatMap((spec) => listOf(spec[key])))
    const plain = [...found].filter((word) => word !== 'any' && !word.includes('{{'))
    if (plain.length < found.size) notes.add(`postgres/${resource.name}: \`${key}\` has templates or \`any\`; ${other} stands for what they mean.`)
    return [...plain, ...(plain.length < found.size || plain.length === 0 ? [other] : [])]
  }
  const asked: Statement[] = []
  for (const database of words('databases', 'some_database')) {
    for (const user of words('as', 'some_user')) {
      for (const table of words('tables', SOME_TABLE)) {
        const named = table.replaceAll('*', 'some_table').replaceAll('?', 'x')
        if (named !== table) notes.add(`postgres/${resource.name}: ${named} stands for all that ${table} means.`)
        if (!/^[a-z_][\w]*(\.[a-z_]\w*)?$/i.test(named)) {
          notes.add(`postgres/${resource.name}: nothing was asked about ${table}.`)
          continue
        }
        for (const [kind, sql] of Object.entries(STATEMENTS))
          asked.push({
            what: `${kind} ${table} in ${database.replaceAll('*', 'x')} as ${user.replaceAll('*', 'x')}`,
            ask: { database: database.replaceAll('*', 'x'), user: user.replaceAll('*', 'x'), sql: sql(named) },
            madeUp: (named !== table || table === SOME_TABLE) && !OPAQUE.has(kind),
          })
      }
    }
  }
  if (asked.length > MOST_PROBES) notes.add(`postgres/${resource.name}: its rules name ${asked.length} statements; ${MOST_PROBES} were asked about.`)
  return asked
}
