import type { z } from 'zod'
import type { Guard } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import type { Resource } from '../../../policy/types.ts'
import { connectAction } from '../describe.ts'
import type { Wire } from '../in-memory.ts'
import type { Who } from '../relay.ts'
import { DESCRIBE_TABLE, describedTable, LIST_TABLES, listedTable, readTableName } from './catalog.ts'
import { type DatabaseClient, type Statement, StatementFailed } from './client.ts'
import { Connections } from './connections.ts'
import { ARGUMENTS, type ToolName } from './definitions.ts'
import { type KeptBytes, type Page, Pages } from './pages.ts'
import { leavesNothing, mayReadTable } from './statements.ts'
import { dataText, errorText, failed, pageResult } from './text.ts'
import type { Call, Caller, Row, Taken, ToolLimits, ToolResult } from './types.ts'
import { type Users, userOf } from './users.ts'

interface SeatParts {
  readonly guard: Pick<Guard, 'judge'>
  readonly clock: Clock
  readonly limits: ToolLimits
  readonly kept: KeptBytes
  readonly enter: (who: Who) => Wire
  /** kind postgres */
  readonly resource: Resource
  readonly database: string
  readonly users: (session: LiveSession) => Users
  /** Rises with every change of documents, rights and locks. */
  readonly revision: () => number
}

/** The tools of one database for one MCP session. */
export interface Seat {
  /** Rejects with ChaperoneError when the call never became a statement; whatever came of one is a result. */
  call(call: Call): Promise<ToolResult>
  /** Idempotent. */
  end(): Promise<void>
}

/** Errors of a call that was under way: the statement is on record, and its result says why there is no other. */
const UNDER_WAY = new Set<string>(['session_ended', 'too_large', 'upstream_unavailable', 'unsupported'])

export function makeSeat(parts: SeatParts): Seat {
  const { guard, clock, limits, resource, database } = parts
  const name = `${resource.name}/${database}`
  const connections = new Connections({ enter: parts.enter, clock, limits, database: name })
  const pages = new Pages(clock, limits, parts.kept)

  const run = (caller: Caller, user: string, asked: Statement, signal: AbortSignal): Promise<Taken> =>
    connections.use(caller, user, signal, async (client: DatabaseClient) => {
      const taken = await client.run(asked, signal)
      if (client.inTransaction)
        throw new ChaperoneError('unsupported', 'Each call is a transaction of its own: what this one began was rolled back at its end.')
      return { value: taken, clean: leavesNothing(asked.text) }
    })
  const wholly = (text: string, ...parameters: (string | null)[]): Statement => ({ text, parameters, valueChars: limits.bytes })

  /** Rows that wait for the next page were allowed as of now: any change of rights may be about them. */
  const shownAsOfNow = ({ session }: Caller, user: string) => {
    const revision = parts.revision()
    return () => {
      const { verdict } = guard.judge(session, connectAction({ resource, database, user }))
      if (verdict !== 'allow' || parts.revision() !== revision)
        throw new ChaperoneError('conflict', 'Rights have changed since the query ran.', { fix: 'Run the query again.' })
    }
  }

  const paged = (page: Page) => pageResult(page, limits.keptMs / 1000)
  const tools: { readonly [Name in ToolName]: (call: Call, args: z.infer<(typeof ARGUMENTS)[Name]>) => Promise<ToolResult> } = {
    async query(call, { sql, params, max_rows: maxRows = limits.pageRows, cursor, as }) {
      if (cursor !== undefined) {
        if (sql !== undefined || params !== undefined) throw usage('A cursor is the rest of an earlier query.', 'Leave `sql` and `params` out.')
        return paged(pages.next(cursor, maxRows))
      }
      if (sql === undefined) throw usage('There is no SQL.', 'Write `sql`, or the `cursor` of an earlier result.')
      const user = userOf(parts.users(call.session), as)
      const assertShown = shownAsOfNow(call, user)
      const rows = Math.min(limits.rows, maxRows * limits.pages)
      const taken = await run(call, user, { text: sql, parameters: parametersOf(params), rows }, call.signal)
      return paged(pages.first(taken, maxRows, assertShown))
    },

    async list_tables(call, { schema, as }) {
      const user = userOf(parts.users(call.session), as)
      const { rows, more } = await run(call, user, wholly(LIST_TABLES, schema ?? null), call.signal)
      const all = rows.map(listedTable)
      const readable = all.filter((table) => mayReadTable(guard, call.session, { resource, database, user }, table.schema, table.name))
      const tables = readable.slice(0, limits.tables)
      const not = all.length - readable.length
      const shown = { tables, not_shown: not, more: more || tables.length < readable.length }
      const lines = tables.map((table): Row => [table.schema, table.name, table.kind, table.rows_estimate, table.comment])
      const head = `${tables.length} tables and views in ${name}${not > 0 ? `; ${not} more may not be read by you` : ''}. Schema, name, kind, estimated rows, comment.`
      const text = dataText(head, lines, shown.more ? ['There are more: name a schema.'] : [])
      return { content: [{ type: 'text', text }], structuredContent: shown }
    },

    async describe_table(call, { table, schema, as }) {
      const user = userOf(parts.users(call.session), as)
      const named = schema === undefined ? readTableName(table) : { schema, table }
      if (!named)
        throw usage(`${JSON.stringify(table)} is not the name of a table.`, 'Write `table` or `schema.table`, and a name with a dot in it in quotes.')
      const { rows } = await run(call, user, wholly(DESCRIBE_TABLE, named.table, named.schema), call.signal)
      const found = rows[0] && describedTable(rows[0])
      // What may not be read is answered like what is not there, as the list leaves it out (rule 8).
      if (!found || !mayReadTable(guard, call.session, { resource, database, user }, found.schema, found.name))
        return failed(`There is no table ${JSON.stringify(table)} that you may read. \`list_tables\` shows those that there are.`)
      const { columns, ...rest } = found
      const text = dataText(`Table ${name}, what is known of it:`, [[rest], ...(columns as Row).map((column): Row => [column])], [])
      return { content: [{ type: 'text', text }], structuredContent: found }
    },

    async explain(call, { sql, params, analyze = false, as }) {
      const user = userOf(parts.users(call.session), as)
      const prefix = explainPrefix(analyze)
      const { rows } = await run(call, user, { text: `${prefix}${sql}`, parameters: parametersOf(params), valueChars: limits.bytes }, call.signal)
      const plan = rows[0]?.[0] ?? null
      const text = dataText(analyze ? 'The plan, and what running it took:' : 'The plan; the statement was not run:', [[plan]], [])
      return { content: [{ type: 'text', text }], structuredContent: { plan, analyzed: analyze } }
    },
  }

  return {
    async call(call) {
      const tool = call.tool as ToolName
      if (!Object.hasOwn(ARGUMENTS, tool)) throw usage('There is no such tool.', `The tools are ${Object.keys(ARGUMENTS).join(', ')}.`)
      const args = readArguments(tool, call)
      try {
        return await tools[tool](call, args as never)
      } catch (error) {
        const before = tool === 'explain' ? explainPrefix((args as { analyze?: boolean }).analyze ?? false).length : 0
        if (error instanceof StatementFailed) return failed(errorText(error.sql, (args as { sql?: string }).sql, before))
        if (error instanceof ChaperoneError && UNDER_WAY.has(error.code)) return failed([error.message, error.fix].filter(Boolean).join(' '))
        throw error
      }
    },

    async end() {
      connections.end()
      pages.clear()
    },
  }
}

const usage = (message: string, fix: string) => new ChaperoneError('usage', message, { fix })

const explainPrefix = (analyze: boolean) => `EXPLAIN (FORMAT JSON${analyze ? ', ANALYZE' : ''}) `

const parametersOf = (params: readonly (string | number | boolean | null)[] = []) => params.map((value) => (value === null ? null : String(value)))

function readArguments(tool: ToolName, { args, lossy }: Call): unknown {
  const read = ARGUMENTS[tool].safeParse(args)
  if (!read.success) {
    const [first] = read.error.issues
    throw usage(
      `The arguments of ${tool} do not fit: ${first!.path.join('.') || 'all of them'}: ${first!.message}.`,
      'Its input schema says what it takes.',
    )
  }
  if (lossy.size > 0) throw usage('A number has more digits than JSON keeps.', 'Write it as text, in quotes.')
  return read.data
}
