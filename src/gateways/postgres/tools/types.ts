import type { Connection, LiveSession } from '../../../identity/types.ts'

/** The value of a column as it goes into JSON. SQL NULL is null. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

export interface Column {
  readonly name: string
  /** `int4`, `text[]`; `oid 16401` for a type that is the database's own */
  readonly type: string
}

/** Rows by position: two columns of one name are two columns. */
export type Row = readonly Json[]

/** What a statement gave, as far as it was taken. */
export interface Taken {
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
  /** the server's word for what it did: `SELECT 3`, `UPDATE 1`; undefined when it was not let to its end */
  readonly tag: string | undefined
  /** There were more rows than are taken. */
  readonly more: boolean
  /** values that were too long and are cut */
  readonly cut: number
  readonly notices: readonly string[]
}

export interface ToolLimits {
  /** rows and bytes (of their JSON) that are taken of one statement; all pages are cut from them */
  readonly rows: number
  readonly bytes: number
  /** and no more rows than so many pages have */
  readonly pages: number
  /** rows of one page: when nothing is said, and at the most */
  readonly pageRows: number
  readonly maxPageRows: number
  /** bytes of one page; one row is always shown */
  readonly pageBytes: number
  /** characters of one value */
  readonly valueChars: number
  /** further pages are kept for so long, of so many results of one session, in so many bytes of all */
  readonly keptMs: number
  readonly keptResults: number
  readonly keptBytes: number
  /** bytes from the database for one statement: those of values that are not shown count too */
  readonly wireBytes: number
  /** a connection that nobody uses is closed after */
  readonly idleMs: number
  /** connections of one MCP session to one database */
  readonly connections: number
  /** tables in one list */
  readonly tables: number
}

export const TOOL_LIMITS: ToolLimits = {
  rows: 5_000,
  bytes: 4 * 1024 * 1024,
  pages: 10,
  pageRows: 100,
  maxPageRows: 1_000,
  pageBytes: 256 * 1024,
  valueChars: 32 * 1024,
  keptMs: 120_000,
  keptResults: 4,
  keptBytes: 64 * 1024 * 1024,
  wireBytes: 64 * 1024 * 1024,
  idleMs: 30_000,
  connections: 4,
  tables: 2_000,
}

/** Who calls a tool. */
export interface Caller {
  readonly session: LiveSession
  /** of the request; ends with it */
  readonly connection: Connection
  /** W3C trace id of the request */
  readonly trace?: string | undefined
  /** the question about this call that its client waits for already (`Asking.known`) */
  readonly known?: string | undefined
}

/** One call of a tool, its arguments not read yet. */
export interface Call extends Caller {
  readonly tool: string
  readonly args: Readonly<Record<string, unknown>>
  /** JSON pointers into `args` of numbers that a double does not keep */
  readonly lossy: ReadonlySet<string>
  readonly signal: AbortSignal
}

/** The result of a call, as MCP has it. */
export interface ToolResult {
  readonly content: readonly { readonly type: 'text'; readonly text: string }[]
  readonly structuredContent?: Readonly<Record<string, unknown>>
  readonly isError?: true
}
