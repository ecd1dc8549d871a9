import { createHash } from 'node:crypto'
import { ChaperoneError } from '../../../errors.ts'
import type { Described } from '../describe.ts'
import type { Mirror, Relation, Routine } from '../mirror/types.ts'
import { quotedName } from '../sql/relations.ts'

/** What a statement leads to, as the mirror resolves it. */
export interface Resolved {
  /** in order of oid */
  readonly relations: readonly Relation[]
  readonly routines: readonly Pick<Routine, 'schema' | 'name'>[]
}

export function resolvedIn(mirror: Mirror, { read, written, behind, covered, functions }: Described): Resolved {
  const names = new Set([...read, ...written, ...behind, ...Object.values(covered ?? {}).flat()])
  const named = new Set(functions)
  const relations = new Map<number, Relation>()
  if (names.size > 0) for (const relation of mirror.all()) if (names.has(quotedName(relation))) relations.set(relation.oid, relation)
  const routines = new Map<string, Routine>()
  for (const name of named) {
    // `schema.name`, as it was quoted: the last part is looked for, and the whole compared.
    for (const routine of [...mirror.routinesNamed(lastPart(name)), ...mirror.operatorsNamed(lastPart(name))]) {
      if (named.has(quotedName(routine))) routines.set(quotedName(routine), routine)
    }
  }
  return {
    relations: [...relations.values()].sort((a, b) => a.oid - b.oid),
    routines: [...routines.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { schema, name }]) => ({ schema, name })),
  }
}

function lastPart(name: string): string {
  const last = /(?:^|\.)("(?:[^"]|"")*"|[^."]*)$/.exec(name)?.[1] ?? name
  return last.startsWith('"') ? last.slice(1, -1).replaceAll('""', '"') : last
}

const IS = 'OPERATOR(pg_catalog.=)'
/** FirstNormalObjectId: what has a lower one came with the server. */
const FIRST_OWN = '16384::pg_catalog.oid'
const texts = (values: readonly string[]) => `ARRAY[${values.map((value) => `'${value.replaceAll("'", "''")}'`).join(', ')}]::pg_catalog.name[]`

/**
 * Everything that is said of these relations and functions and can change what the statement does to rows: one text a line. On the
 * client's connection, so with every name in full (`state.ts`). What VACUUM and ANALYZE note is left out.
 */
export function definitionsOf({ relations, routines }: Resolved): string {
  const oids = `ARRAY[${relations.map(({ oid }) => oid).join(', ')}]::pg_catalog.oid[]`
  const line = (kind: string, ...parts: string[]) => `pg_catalog.json_build_array('${kind}', ${parts.join(', ')})::pg_catalog.text`
  const triggers = `pg_catalog.pg_trigger t WHERE t.tgrelid ${IS} ANY (${oids}) AND NOT t.tgisinternal`
  const among = (of: string, where: string) => `SELECT x.oid FROM pg_catalog.${of} x WHERE x.${where} ${IS} ANY (${oids})`
  const parts = [
    ['pg_attrdef', among('pg_attrdef', 'adrelid')],
    ['pg_constraint', among('pg_constraint', 'conrelid')],
    ['pg_policy', among('pg_policy', 'polrelid')],
    ['pg_rewrite', among('pg_rewrite', 'ev_class')],
  ]
  const called = parts.map(
    ([of, those]) => `(d.classid ${IS} 'pg_catalog.${of}'::pg_catalog.regclass::pg_catalog.oid AND d.objid ${IS} ANY (ARRAY(${those})))`,
  )
  /** Functions that are named, those of triggers, and those that defaults, constraints, policies and rules call. */
  const run = `SELECT t.tgfoid FROM ${triggers}
    UNION SELECT n.oid FROM pg_catalog.pg_proc n WHERE n.proname ${IS} ANY (${texts(routines.map(({ name }) => name))}) AND n.pronamespace ${IS} ANY
      (ARRAY(SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname ${IS} ANY (${texts(routines.map(({ schema }) => schema))})))
    UNION SELECT d.refobjid FROM pg_catalog.pg_depend d
      WHERE d.refclassid ${IS} 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AND (${called.join(' OR ')})`
  const lines = [
    `SELECT ${line('relation', 'c.oid', 'c.relname', 'c.relnamespace', 'c.relkind', 'c.relowner', 'c.relrowsecurity', 'c.relforcerowsecurity', 'c.relispartition')}
       FROM pg_catalog.pg_class c WHERE c.oid ${IS} ANY (${oids})`,
    `SELECT ${line('column', 'a.attrelid', 'a.attnum', 'a.attname', 'a.atttypid', 'a.atttypmod', 'a.attnotnull', 'a.attidentity', 'a.attgenerated', 'a.attcollation')}
       FROM pg_catalog.pg_attribute a WHERE a.attrelid ${IS} ANY (${oids}) AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped`,
    `SELECT ${line('default', 'd.adrelid', 'd.adnum', 'd.adbin::pg_catalog.text')} FROM pg_catalog.pg_attrdef d WHERE d.adrelid ${IS} ANY (${oids})`,
    // Also those of other tables that point here: a DELETE may go on there.
    `SELECT ${line('constraint', 'k.conrelid', 'k.confrelid', 'k.conname', 'pg_catalog.pg_get_constraintdef(k.oid)')}
       FROM pg_catalog.pg_constraint k WHERE k.conrelid ${IS} ANY (${oids}) OR k.confrelid ${IS} ANY (${oids})`,
    // Where the rows of a foreign table really are, and what the domain of a column takes.
    `SELECT ${line('foreign table', 'f.ftrelid', 'f.ftserver', 'f.ftoptions', 's.srvfdw', 's.srvoptions')}
       FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_foreign_server s ON s.oid ${IS} f.ftserver WHERE f.ftrelid ${IS} ANY (${oids})`,
    `SELECT ${line('domain', 'k.contypid', 'k.conname', 'pg_catalog.pg_get_constraintdef(k.oid)')} FROM pg_catalog.pg_constraint k
       WHERE k.contypid ${IS} ANY (ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid ${IS} ANY (${oids}))) AND k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid`,
    `SELECT ${line('trigger', 't.tgrelid', 't.tgenabled', 't.tgfoid', 'pg_catalog.pg_get_triggerdef(t.oid)')} FROM ${triggers}`,
    `SELECT ${line('rule', 'w.ev_class', 'w.rulename', 'w.ev_enabled', 'w.ev_qual::pg_catalog.text', 'w.ev_action::pg_catalog.text')}
       FROM pg_catalog.pg_rewrite w WHERE w.ev_class ${IS} ANY (${oids})`,
    `SELECT ${line('policy', 'y.polrelid', 'y.polname', 'y.polcmd', 'y.polpermissive', 'y.polroles', 'y.polqual::pg_catalog.text', 'y.polwithcheck::pg_catalog.text')}
       FROM pg_catalog.pg_policy y WHERE y.polrelid ${IS} ANY (${oids})`,
    `SELECT ${line('function', 'pg_catalog.row_to_json(p)')} FROM pg_catalog.pg_proc p WHERE p.oid ${IS} ANY (ARRAY(${run}))`,
    // What they call in their turn nobody can tell from outside, so where code of the user's runs, all of it is counted, and with it
    // what runs code on tables that only it knows of. Rules that make a view are no code.
    `SELECT ${line('code', `pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat(p.of, ' ', p.oid, ' ', p.xmin), ',' ORDER BY p.of, p.oid))`)}
       FROM (SELECT 1 AS of, x.oid, x.xmin FROM pg_catalog.pg_proc x WHERE x.oid OPERATOR(pg_catalog.>=) ${FIRST_OWN}
         UNION ALL SELECT 2, x.oid, x.xmin FROM pg_catalog.pg_trigger x WHERE NOT x.tgisinternal
         UNION ALL SELECT 3, x.oid, x.xmin FROM pg_catalog.pg_policy x
         UNION ALL SELECT 4, x.oid, x.xmin FROM pg_catalog.pg_rewrite x WHERE x.rulename OPERATOR(pg_catalog.<>) '_RETURN'::pg_catalog.name) p
       HAVING EXISTS (SELECT 1 FROM (${run}) AS f (oid) WHERE f.oid OPERATOR(pg_catalog.>=) ${FIRST_OWN})`,
  ]
  return lines.join(' UNION ALL ')
}

/** sha256 hex of what the server says. Throws ChaperoneError when it did not. */
export function digestOfDefinitions(rows: readonly (readonly (string | null)[])[] | undefined): string {
  if (!rows) throw new ChaperoneError('upstream_unavailable', 'The database does not say how its tables are defined.')
  const lines = rows.map(([line]) => line ?? '').sort()
  return createHash('sha256').update(JSON.stringify(lines)).digest('hex')
}
