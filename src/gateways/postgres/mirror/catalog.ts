import { UNREAD } from './types.ts'

/**
 * The questions that a mirror is made from. They run with an empty search_path, so PostgreSQL writes every name of a
 * definition in full, except those of pg_catalog. Everybody may read these catalogs; nothing here needs a right. Rows
 * are pairs of texts, so that long parts (the columns of a table) need not be read before somebody asks for them.
 * They are the same for PostgreSQL 13 to 18.
 */

/** The first oid that a server gives away after initdb: what is below came with PostgreSQL. */
const FIRST_OWN = 16384

const SYSTEM = `('pg_catalog', 'information_schema', 'pg_toast')`
/** Somebody may add objects to pg_catalog too (a superuser, an extension): those are not PostgreSQL's either. */
const ours = (object: string) => `(n.nspname NOT IN ${SYSTEM} OR (n.nspname = 'pg_catalog' AND ${object}.oid >= ${FIRST_OWN}))`

/** One function as an array; also of pg_catalog, because a user's operator may stand for `nextval`. */
const ROUTINE = `json_build_array(pn.nspname, p.proname, p.prokind, p.provolatile, p.prosecdef, l.lanname, p.proargtypes::oid[], p.prorettype,
  p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int, p.provariadic <> 0,
  EXISTS (SELECT FROM pg_proc b WHERE b.proname = p.proname AND b.proargtypes = p.proargtypes AND b.pronamespace = 'pg_catalog'::regnamespace AND b.oid < ${FIRST_OWN}))`
const routineOf = (oids: string) =>
  `(SELECT json_agg(${ROUTINE}) FROM pg_proc p JOIN pg_namespace pn ON pn.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang WHERE p.oid IN (${oids}))`

/**
 * By what rows come that are read through an index of `c`: the columns of its keys, those inside expressions as pg_depend has them
 * (which knows no whole rows). GIN and BRIN give rows in the order in which they lie.
 */
const SORTED = `(SELECT json_agg(json_build_array(
    ARRAY(SELECT k FROM unnest((u.indkey::int2[])[0:u.indnkeyatts - 1]) k WHERE k <> 0)
      || CASE WHEN 0 = ANY ((u.indkey::int2[])[0:u.indnkeyatts - 1]) THEN ARRAY(SELECT d.refobjsubid::int2 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = u.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0) ELSE '{}' END
      || CASE WHEN u.indexprs::text LIKE '%:varattno 0 %' THEN '{0}' ELSE '{}' END::int2[],
    u.indnkeyatts = 1 AND u.indpred IS NULL))
  FROM pg_index u WHERE u.indrelid = c.oid AND u.indisvalid AND pg_index_has_property(u.indexrelid, 'index_scan') IS DISTINCT FROM false)`

/**
 * pg_get_viewdef and its like lock every relation that they name, and so wait behind LOCK TABLE, VACUUM FULL, REFRESH ... of any of
 * them. Everything else that is asked here takes no lock on anything of the user's.
 */
type Unread = readonly number[] | 'all'
const unlessUnread = (unread: Unread, text: string) => {
  if (unread === 'all') return `'${UNREAD}'::text`
  return unread.length === 0 ? text : `CASE WHEN c.oid = ANY ('{${unread.join()}}'::oid[]) THEN '${UNREAD}'::text ELSE ${text} END`
}

/** Relations of which something cannot be read just now: who waits for ACCESS EXCLUSIVE keeps others out as who has it. */
export const UNREADABLE = `
  WITH locked AS (SELECT l.relation AS oid FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
    AND l.database = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()))
  SELECT oid FROM locked
  UNION SELECT r.ev_class FROM locked, pg_depend d, pg_rewrite r
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = locked.oid AND d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  UNION SELECT y.polrelid FROM locked, pg_depend d, pg_policy y
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = locked.oid AND d.classid = 'pg_policy'::regclass AND y.oid = d.objid`

/** A page of relations, by oid. The definitions of those in `unread` are not asked for: {@link UNREAD} stands for each. */
export const relationsAfter = (oid: number, count: number, unread: Unread = []) => `
  SELECT json_build_array(c.oid, n.nspname, c.relname, c.relkind, c.reltype, coalesce(t.typarray, 0),
    (SELECT json_agg(i.inhrelid ORDER BY i.inhrelid) FROM pg_inherits i WHERE i.inhparent = c.oid),
    (SELECT json_agg(i.inhparent ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid),
    c.relhastriggers AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal),
    c.relhasrules AND EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
    (SELECT json_agg(u.indkey::int2[]) FROM pg_index u WHERE u.indrelid = c.oid AND u.indisunique AND u.indisvalid AND u.indpred IS NULL),
    (SELECT json_agg(json_build_array(k.conkey, k.confrelid, k.confkey)) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'),
    CASE WHEN c.relrowsecurity THEN
      (SELECT json_agg(e.text) FROM pg_policy y,
        LATERAL (VALUES (${unlessUnread(unread, 'pg_get_expr(y.polqual, y.polrelid)')}), (${unlessUnread(unread, 'pg_get_expr(y.polwithcheck, y.polrelid)')})) AS e (text)
        WHERE y.polrelid = c.oid AND e.text IS NOT NULL) END,
    CASE WHEN c.relkind IN ('v', 'm') THEN ${unlessUnread(unread, 'pg_get_viewdef(c.oid)')} END,
    (SELECT json_agg(d.text) FROM (
      SELECT ${unlessUnread(unread, 'pg_get_constraintdef(k.oid)')} AS text FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x')
      UNION ALL SELECT ${unlessUnread(unread, 'pg_get_indexdef(u.indexrelid)')} FROM pg_index u
      WHERE u.indrelid = c.oid AND u.indisunique AND (u.indpred IS NOT NULL OR u.indexprs IS NOT NULL OR NOT u.indisvalid)) AS d),
    CASE WHEN c.relkind = 'p' THEN ${unlessUnread(unread, 'pg_get_partkeydef(c.oid)')} END,
    ${SORTED})::text,
    (SELECT json_agg(json_build_array(a.attnum, a.attname, a.atttypid,
        CASE WHEN a.attgenerated <> '' THEN (SELECT ${unlessUnread(unread, 'pg_get_expr(d.adbin, d.adrelid)')} FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END)
        ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type t ON t.oid = c.reltype
  WHERE c.oid > ${oid} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND ${ours('c')}
  ORDER BY c.oid LIMIT ${count}`

export const ROUTINES = `
  SELECT ${ROUTINE}::text, CASE WHEN p.prokind = 'a' THEN (
      SELECT ${routineOf('g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn')}
      FROM pg_aggregate g WHERE g.aggfnoid = p.oid) END::text
  FROM pg_proc p JOIN pg_namespace pn ON pn.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  WHERE pn.nspname NOT IN ${SYSTEM} OR (pn.nspname = 'pg_catalog' AND p.oid >= ${FIRST_OWN})`

export const OPERATORS = `
  SELECT json_build_array(n.nspname, o.oprname, o.oprleft, o.oprright, o.oprresult,
    EXISTS (SELECT FROM pg_operator b WHERE b.oprname = o.oprname AND b.oprleft = o.oprleft AND b.oprright = o.oprright
      AND b.oprnamespace = 'pg_catalog'::regnamespace AND b.oid < ${FIRST_OWN}))::text, ${routineOf('o.oprcode')}::text
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oprcode <> 0 AND ${ours('o')}`

/** Domains of the system too (those of information_schema): what lies below them must be known. Types of rows come with their relations. */
export const types = (isRead: boolean) => `
  SELECT json_build_array(t.oid, n.nspname, t.typname, CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN 'a' ELSE t.typtype::text END, t.typelem, t.typbasetype,
      (SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid),
      (SELECT r.rngtypid FROM pg_range r WHERE (to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid),
      (SELECT json_agg(${isRead ? 'pg_get_expr(k.conbin, 0)' : `'${UNREAD}'::text`}) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))::text,
    ${routineOf(`SELECT f FROM unnest(ARRAY[t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid, t.typmodin::oid] || ARRAY(SELECT r.rngcanonical::oid FROM pg_range r WHERE r.rngtypid = t.oid)) f WHERE f >= ${FIRST_OWN}`)}::text
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typlen = -1
  WHERE t.typrelid = 0 AND coalesce(e.typrelid, 0) = 0 AND (${ours('t')} OR t.typtype = 'd')`

export const CASTS = `
  SELECT json_build_array(k.castsource, k.casttarget, k.castcontext)::text, ${routineOf('k.castfunc')}::text
  FROM pg_cast k WHERE k.oid >= ${FIRST_OWN}`

export const NAMES = `
  SELECT (SELECT json_agg(DISTINCT p.proname) FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace)::text,
    (SELECT json_agg(s.nspname || '.' || c.relname) FROM pg_class c
      JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname IN ('pg_catalog', 'information_schema') AND c.oid < ${FIRST_OWN} AND c.relkind IN ('r', 'v'))::text`

/**
 * The same text as long as nothing has changed that a mirror holds. Rows that are written anew get another xmin; what
 * VACUUM and ANALYZE note in pg_class is written in place. Temporary tables are left out: they come and go all the time, and a
 * name that is not known makes the gateway look anyway.
 */
export const SIGNATURE = (() => {
  const sum = (of: string, key: string, where = 'true') =>
    `(SELECT count(*) || '.' || coalesce(sum((xmin::text::int8 + 1) * (1 + ${key} % 1000003)), 0) FROM ${of} WHERE ${where})`
  const lasting = (namespace: string) => `${namespace} NOT IN (SELECT n.oid FROM pg_namespace n WHERE n.nspname ~ '^pg_(toast|temp|toast_temp)')`
  const parts = [
    sum('pg_namespace', 'oid::int8', "nspname !~ '^pg_(temp|toast_temp)'"),
    sum('pg_class', 'oid::int8', `oid >= ${FIRST_OWN} AND ${lasting('relnamespace')}`),
    sum(
      'pg_attribute',
      '(attrelid::int8 * 1601 + attnum)',
      `attrelid IN (SELECT c.oid FROM pg_class c WHERE c.oid >= ${FIRST_OWN} AND ${lasting('c.relnamespace')})`,
    ),
    sum('pg_proc', 'oid::int8'),
    sum('pg_aggregate', 'aggfnoid::oid::int8'),
    sum('pg_operator', 'oid::int8'),
    sum('pg_type', 'oid::int8', lasting('typnamespace')),
    ...['pg_cast', 'pg_constraint', 'pg_rewrite', 'pg_policy', 'pg_trigger', 'pg_attrdef'].map((name) => sum(name, 'oid::int8')),
    sum('pg_inherits', '(inhrelid::int8 + inhparent::int8)'),
    sum('pg_index', 'indexrelid::int8', `indexrelid >= ${FIRST_OWN}`),
  ]
  return `SELECT ${parts.join(" || ' ' || ")}`
})()
