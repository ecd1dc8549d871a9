import type { RecordedFacts } from './facts.ts'

/** For docs/reference/audit-events.md; `satisfies` keeps it whole when a fact is added. */
export const STATEMENT_FACTS = {
  database: 'The database.',
  user: 'The database user.',
  statements: 'The kinds of the statement and of what acts inside it; absent when it is the operation alone.',
  tables: '`{read, written}`: the relations that the statement names, as `schema.table`.',
  behind: 'Tables that stand behind the views and partitions that it names.',
  covered:
    '`{read, written, behind}`: relations that a name without a schema would lead to only if the one before them on the search path had gone meanwhile. Rules count them; they were not used.',
  columns: '`{read, written}`: as `schema.table.column`, as far as it is known which are meant.',
  fingerprint: 'The statement without its constants, hashed: the same for all that differ in their values alone.',
  functions: 'Functions that it calls.',
  settings: 'Settings that it changes.',
  opaque: '`true`: it runs code or touches tables that its text does not show.',
  every_row: '`true`: an UPDATE or DELETE without a condition on rows.',
  path: 'The search path, where a table is named without its schema.',
  parameters: '`hashed` or `none`: values are not recorded as they are, because the document of the database says so.',
  more: 'How many names the lists leave out; the body `facts` has them all.',
} as const satisfies Record<keyof RecordedFacts, string>

export const STATEMENT_OUTCOME = {
  sent: '`false`: the database never saw it.',
  rows: 'Rows that went back, or that it changed.',
  bytes: 'Bytes of these rows on the wire; under `max_bytes` also of errors and notices.',
  ms: 'From sending it until its answer was whole.',
  sqlstate: 'The SQLSTATE of the error that ended it.',
  capped: '`true`: the rule cut the result, or what the database said of it.',
  cut_by: 'What it was cut by: `rows` or `bytes`.',
  timed_out: '`true`: it ran longer than its rule allows, and was cancelled.',
  masked: 'How many columns of the result were hidden.',
  mask_unknown: 'Columns of the mask that the database does not have.',
  reason: 'Why Chaperone stopped it.',
  transaction: 'Number of the transaction on its connection: what ran in one has one number.',
  ended: 'Of COMMIT and ROLLBACK: `committed` or `rolled back`, as the server said.',
  rolledBack: '`true`: it ran, and another statement of the same message failed and undid it.',
} as const
