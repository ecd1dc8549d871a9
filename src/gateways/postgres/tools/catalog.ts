import type { Json, Row } from './types.ts'

/** pg_class.relkind of relations that hold rows to be read. */
const KINDS: Readonly<Record<string, string>> = { r: 'table', p: 'partitioned table', v: 'view', m: 'materialized view', f: 'foreign table' }

/**
 * Only pg_catalog, every name written in full, and only relations and functions that `can: read` brings along
 * (sql/relations.ts, sql/functions.ts): judged and recorded like a statement that a client wrote.
 */
const ESTIMATE = 'CASE WHEN c.reltuples < 0 THEN NULL ELSE c.reltuples::pg_catalog.int8 END'
const RELATIONS = `pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`
const SHOWN = `c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
  AND (pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))`

/** $1: a schema, or null for all of them. */
export const LIST_TABLES = `SELECT n.nspname, c.relname, c.relkind::pg_catalog.text, ${ESTIMATE}, pg_catalog.obj_description(c.oid, 'pg_class')
FROM ${RELATIONS}
WHERE ${SHOWN} AND ($1::pg_catalog.text IS NULL OR n.nspname = $1)
ORDER BY 1, 2`

export interface ListedTable {
  readonly schema: string
  readonly name: string
  readonly kind: string
  readonly rows_estimate: Json
  readonly comment: Json
}

export const listedTable = ([schema, name, kind, estimate, comment]: Row): ListedTable => ({
  schema: String(schema),
  name: String(name),
  kind: KINDS[String(kind)] ?? String(kind),
  rows_estimate: estimate ?? null,
  comment: comment ?? null,
})

const names = (keys: string, table: string) =>
  `(SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(${keys}) WITH ORDINALITY AS k(attnum, n)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = ${table} AND a.attnum = k.attnum)`

/**
 * $1: the table, $2: its schema, or null for the one that is found first. One row at the most: name, kind and comment, and
 * lists as JSON. Only what the table itself is; nothing of its rows.
 */
export const DESCRIBE_TABLE = `SELECT n.nspname, c.relname, c.relkind::pg_catalog.text, ${ESTIMATE}, pg_catalog.obj_description(c.oid, 'pg_class'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'nullable', NOT a.attnotnull,
      'default', CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
      'generated', a.attidentity <> '' OR a.attgenerated <> '',
      'comment', pg_catalog.col_description(c.oid, a.attnum)) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT ${names('p.conkey', 'c.oid')} FROM pg_catalog.pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'columns', ${names('f.conkey', 'f.conrelid')}, 'references', pg_catalog.format('%I.%I', fn.nspname, fc.relname),
      'to', ${names('f.confkey', 'f.confrelid')}) ORDER BY f.conname)
    FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class fc ON fc.oid = f.confrelid
    JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace WHERE f.conrelid = c.oid AND f.contype = 'f'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', u.conname, 'definition', pg_catalog.pg_get_constraintdef(u.oid)) ORDER BY u.conname)
    FROM pg_catalog.pg_constraint u WHERE u.conrelid = c.oid AND u.contype IN ('u', 'c', 'x')),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', ic.relname, 'definition', pg_catalog.pg_get_indexdef(i.indexrelid)) ORDER BY ic.relname)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid)
FROM ${RELATIONS}
WHERE ${SHOWN.replace('NOT c.relispartition', 'true')} AND c.relname = $1
  AND CASE WHEN $2::pg_catalog.text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $2 END
LIMIT 1`

/** A table as it is described; the lists that are empty come as NULL. */
export function describedTable(row: Row) {
  const [, , , , , columns, key, foreign, constraints, indexes] = row
  return {
    ...listedTable(row),
    columns: columns ?? [],
    primary_key: key ?? [],
    foreign_keys: foreign ?? [],
    constraints: constraints ?? [],
    indexes: indexes ?? [],
  }
}

/** `"my schema".table` as schema and table; the one dot outside of quotes parts them. Undefined: it cannot be read. */
export function readTableName(given: string): { readonly schema: string | null; readonly table: string } | undefined {
  const parts = /^(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)$/.exec(given)
  if (!parts) return undefined
  const plain = (part: string) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part)
  return { schema: parts[1] === undefined ? null : plain(parts[1]), table: plain(parts[2]!) }
}
