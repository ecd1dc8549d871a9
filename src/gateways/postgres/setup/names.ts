/**
 * Names as a person may paste them into psql or pg_hba.conf: they come from documents, so a name such as
 * `x"; drop table y; --` must come out as a name.
 */

/** Words that cannot stand bare as the name of a role, table or database (pg_get_keywords, catcode R and T). */
const RESERVED = new Set(
  `all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column concurrently
   constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp current_user default
   deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike in initially inner
   intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or
   order outer overlaps placing primary public references returning right select session_user similar some symmetric system_user table
   tablesample then to trailing true union unique user using variadic verbose when where window with none`.split(/\s+/),
)

/** A role, database, schema or table in SQL. */
export const identifier = (name: string): string =>
  /^[a-z_][a-z0-9_]*$/.test(name) && !RESERVED.has(name) ? name : `"${name.replaceAll('"', '""')}"`

/** A schema; `public` is one of them, but no role can be called that. */
export const schemaName = (name: string): string => (name === 'public' ? name : identifier(name))

/** A user or database in pg_hba.conf, where quotes also take the meaning from `all`, `+group`, `/pattern` and `@file`. */
export const hbaName = (name: string): string =>
  /^[a-z_][a-z0-9_]*$/.test(name) && !/^(all|sameuser|samerole|samegroup|replication)$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`

/** One word of a shell. */
export const shellWord = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)
