import { z } from 'zod'
import { TOOL_LIMITS } from './types.ts'
import type { Users } from './users.ts'

/** A name or text as it goes over the wire, where a NUL ends it: what stands behind one would be read as something else. */
const text = (most: number) =>
  z
    .string()
    .max(most)
    .refine((value) => !value.includes('\0'), 'holds a NUL')

const as = text(63).min(1).optional()
const sql = text(1024 * 1024).min(1)
const params = z
  .array(z.union([z.string(), z.number(), z.boolean(), z.null()]))
  .max(1_000)
  .optional()
  .describe(
    'Values for $1, $2, ... in the SQL. null is SQL NULL, which is not the empty string "". Write arrays and JSON as text (\'{1,2}\', \'{"a":1}\'), and numbers of more than 15 digits as text.',
  )
const maxRows = z.int().min(1).max(TOOL_LIMITS.maxPageRows).optional().describe(`Rows of one page; default ${TOOL_LIMITS.pageRows}.`)
const schemaName = text(63).min(1).optional()

/** What the tools take. `as` is described for each identity by itself. */
export const ARGUMENTS = {
  query: z.strictObject({
    sql: sql.optional().describe('One SQL statement, with $1, $2, ... for values.'),
    params,
    max_rows: maxRows,
    cursor: z.string().max(64).optional().describe('`cursor` of an earlier result: its next page. Then leave `sql` out.'),
    as,
  }),
  list_tables: z.strictObject({
    schema: schemaName.describe('Only tables of this schema.'),
    as,
  }),
  describe_table: z.strictObject({
    table: text(200).min(1).describe('`table`, or `schema.table`.'),
    schema: schemaName.describe('Its schema, when the name of the table has a dot in it.'),
    as,
  }),
  explain: z.strictObject({
    sql: sql.describe('One SQL statement.'),
    params,
    analyze: z.boolean().optional().describe('Runs the statement as well, and measures it. It needs the right to run it. Default: false.'),
    as,
  }),
} as const

export type ToolName = keyof typeof ARGUMENTS

const value = z
  .any()
  .describe(
    'null is SQL NULL. bool is a boolean; int2, int4, int8, oid and numeric are numbers where a double keeps every digit, else text; float4 and float8 numbers, NaN and Infinity text; json and jsonb the JSON itself; bytea {"base64": ...}; arrays of these types lists; everything else (dates and times too) the text that PostgreSQL writes.',
  )

/** What the tools give as `structuredContent`. */
export const RESULTS = {
  query: z.object({
    command: z.string().optional().describe('What PostgreSQL did: `SELECT 3`, `UPDATE 1`. Absent when rows were left out.'),
    columns: z
      .array(z.object({ name: z.string(), type: z.string().describe('`int4`, `text[]`; `oid N` for a type of this database') }))
      .describe('In the order of the values of a row. Two columns may have one name.'),
    rows: z.array(z.array(value)).describe('Each a list of values, by position.'),
    first_row: z.int().describe('Position of the first of these rows in the result, from 0.'),
    more: z.boolean().describe('There are more rows than these.'),
    cursor: z
      .string()
      .optional()
      .describe(`For the next page, within ${TOOL_LIMITS.keptMs / 1000} seconds, once.`),
    cut: z.array(z.string()).optional().describe('What was left out, and why.'),
    notices: z.array(z.string()).optional(),
  }),
  list_tables: z.object({
    tables: z.array(
      z.object({
        schema: z.string(),
        name: z.string(),
        kind: z.enum(['table', 'partitioned table', 'view', 'materialized view', 'foreign table']),
        rows_estimate: z.number().nullable().describe('As of the last ANALYZE; null when there was none.'),
        comment: z.string().nullable(),
      }),
    ),
    not_shown: z.int().describe('Tables that the rules do not let this identity read.'),
    more: z.boolean().describe('There are more than one list holds: name a schema.'),
  }),
  describe_table: z.object({
    schema: z.string(),
    name: z.string(),
    kind: z.string(),
    comment: z.string().nullable(),
    rows_estimate: z.number().nullable(),
    columns: z.array(
      z.object({
        name: z.string(),
        type: z.string(),
        nullable: z.boolean(),
        default: z.string().nullable(),
        generated: z.boolean().describe('Its values are made by the database: an identity, or a generated column.'),
        comment: z.string().nullable(),
      }),
    ),
    primary_key: z.array(z.string()),
    foreign_keys: z.array(z.object({ columns: z.array(z.string()), references: z.string(), to: z.array(z.string()) })),
    constraints: z.array(z.object({ name: z.string(), definition: z.string() })).describe('Unique and check constraints.'),
    indexes: z.array(z.object({ name: z.string(), definition: z.string() })),
  }),
  explain: z.object({
    plan: z.any().describe('As EXPLAIN (FORMAT JSON) gives it.'),
    analyzed: z.boolean().describe('The statement was run.'),
  }),
} as const

interface ObjectSchema {
  readonly properties: Readonly<Record<string, object>>
  readonly [key: string]: unknown
}

const schemaOf = (shape: z.ZodType, io: 'input' | 'output') => z.toJSONSchema(shape, { target: 'draft-2020-12', io }) as unknown as ObjectSchema

/** Made once, when somebody first asks: making one takes longer than a call. */
let schemas: Readonly<Record<ToolName, { readonly input: ObjectSchema; readonly output: ObjectSchema }>> | undefined

function schemasOf(name: ToolName) {
  const make = (each: ToolName) => [each, { input: schemaOf(ARGUMENTS[each], 'input'), output: schemaOf(RESULTS[each], 'output') }] as const
  schemas ??= Object.fromEntries(NAMES.map(make)) as unknown as NonNullable<typeof schemas>
  return schemas[name]
}

const NAMES = Object.keys(ARGUMENTS) as ToolName[]

const PURPOSES: Readonly<Record<ToolName, { readonly title: string; readonly description: string }>> = {
  query: {
    title: 'Run SQL',
    description:
      'Runs one SQL statement, as a transaction of its own: what BEGIN or SET do ends with the call. Rows come as lists of values in the order of the columns.',
  },
  list_tables: { title: 'List tables', description: 'Tables and views that you may read, with the number of rows as PostgreSQL estimates it.' },
  describe_table: {
    title: 'Describe a table',
    description: 'Columns with their types, keys, constraints, indexes and comments of one table or view.',
  },
  explain: { title: 'Explain SQL', description: 'The plan of one SQL statement as JSON. The statement is not run unless `analyze` is true.' },
}

const READS = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false }
/** Nothing says what a statement will do: who may write may also destroy, and what a function reaches is not known. */
const MAY_WRITE = { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true }

/**
 * The tools as one identity finds them. `mayWrite`: some rule of it could allow a statement that changes something; where none
 * does, the database itself refuses to, and the hint can be believed.
 */
export function toolsFor(place: string, users: Users, mayWrite: boolean) {
  const described = { ...schemasOf('query').input.properties.as, description: usersText(users) }
  return NAMES.map((name) => {
    const { title, description } = PURPOSES[name]
    const { input, output } = schemasOf(name)
    const catalog = name === 'list_tables' || name === 'describe_table'
    return {
      name,
      title,
      description: `${description} Database: ${place} (PostgreSQL).`,
      inputSchema: { ...input, properties: { ...input.properties, as: described } },
      outputSchema: output,
      annotations: catalog || !mayWrite ? READS : MAY_WRITE,
    }
  })
}

function usersText({ names, patterns, preset }: Users): string {
  const known =
    names.length > 0
      ? `You may use ${names.join(', ')}${patterns.length > 0 ? ', and others that your rules name by a pattern' : ''}.`
      : 'Your rules name users by a pattern.'
  return `Database user. ${known} ${preset === undefined ? 'It must be said.' : `Default: ${preset}.`}`
}
