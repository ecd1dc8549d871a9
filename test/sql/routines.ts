import type pg from 'pg'
import type { Random } from './random.ts'

/** A function of the database, as the generator needs it. */
export interface Routine {
  readonly schema: string
  readonly name: string
  readonly arguments: readonly string[]
  readonly kind: 'f' | 'p' | 'a' | 'w'
  readonly returns: string
  readonly set: boolean
}

/** Every function, procedure and aggregate there is: pg_catalog whole, extensions and the traps of the world. */
export async function readRoutines(client: pg.Client): Promise<readonly Routine[]> {
  const { rows } = await client.query(`
    select n.nspname as schema, p.proname as name, p.prokind as kind, p.proretset as set, format_type(p.prorettype, null) as returns,
           array(select format_type(t, null) from unnest(p.proargtypes) with ordinality u(t, i) order by i) as arguments
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where not ('internal'::regtype = any (p.proargtypes::oid[])) and n.nspname <> 'information_schema'
    order by n.nspname collate "C", p.proname collate "C", oidvectortypes(p.proargtypes) collate "C"`)
  return rows
}

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`

const POOLS: Readonly<Record<string, readonly string[]>> = {
  integer: ['1', '0', '-1', '5', '77', '4', ':pid', ':pid', '262144', '393216', '2147483647'],
  bigint: ['1', '0', '42', '77::bigint'],
  smallint: ['1::int2', '2::int2'],
  numeric: ['1.5', '0.0', "'NaN'::numeric"],
  'double precision': ['1.5', '0.25'],
  real: ['1.5::float4'],
  boolean: ['true', 'false', 'null::bool'],
  text: [
    'app.log',
    'app.items',
    'app.evil_domain',
    "select app.wrote('x')",
    "insert into app.log values ('x')",
    "nextval('app.counter')",
    'app.counter',
    'app.holds_evil',
    'dbname=shop user=root',
    'a',
    '',
    '1',
    'x y',
    'postgresql.conf',
    ':scratch/out',
    '.',
    'c1',
    'UTF8',
    'english',
    'slot1',
    'test_decoding',
    '{"a":1}',
    'search_path',
    'work_mem',
    '$.a',
    'app.wrote',
    'app.wrote(text)',
    'pg_class',
    '(1,evil)',
    'YYYY',
    'GMT',
  ].map(quoted),
  name: ["'app'::name", "'items'::name", "'slot1'::name", "'c1'::name"],
  '"char"': [`'r'::"char"`, `'a'::"char"`],
  character: ["'a'::char"],
  bytea: ["'\\x00'::bytea", "'abc'::bytea"],
  oid: [
    '77::oid',
    "'app.items'::regclass::oid",
    "'app.counter'::regclass::oid",
    '1::oid',
    "'app.wrote(text)'::regprocedure::oid",
    "'app.trap'::regclass::oid",
  ],
  regclass: ["'app.items'::regclass", "'app.counter'::regclass", "'app.trap'::regclass", "'pg_class'::regclass"],
  regtype: ["'int'::regtype", "'app.evil_domain'::regtype"],
  regprocedure: ["'app.wrote(text)'::regprocedure"],
  regconfig: ["'english'::regconfig"],
  regdictionary: ["'simple'::regdictionary"],
  regrole: ["'root'::regrole"],
  pg_lsn: ["'0/1'::pg_lsn", "'FFFF/1'::pg_lsn"],
  date: ["date '2024-01-01'", 'current_date'],
  'timestamp without time zone': ["timestamp '2024-01-01'"],
  'timestamp with time zone': ['now()', "timestamptz '2024-01-01 UTC'"],
  'time without time zone': ["time '01:00'"],
  'time with time zone': ["timetz '01:00+00'"],
  interval: ["interval '1 hour'", "'0'::interval"],
  uuid: ["'00000000-0000-0000-0000-000000000000'::uuid"],
  json: [`'{"a":"1","e":"x"}'::json`, `'[{"a":1,"e":"x"}]'::json`],
  jsonb: [`'{"a":"1","e":"x"}'::jsonb`, `'[{"a":1,"e":"x"}]'::jsonb`],
  jsonpath: [`'$.a'::jsonpath`, `'$[*]'::jsonpath`],
  xml: ["'<a>1</a>'::xml"],
  inet: ["'10.0.0.1'::inet"],
  cidr: ["'10.0.0.0/8'::cidr"],
  tsvector: ["'a:1 b'::tsvector"],
  tsquery: ["'a & b'::tsquery"],
  bit: ["'1010'::bit(4)"],
  'bit varying': ["'101'::varbit"],
  point: ["'(1,2)'::point"],
  box: ["'(1,2),(3,4)'::box"],
  money: ["'1.5'::money"],
  xid: ["'3'::xid"],
  xid8: ["'3'::xid8"],
  cid: ["'0'::cid"],
  tid: ["'(0,1)'::tid"],
  refcursor: ["'c1'::refcursor"],
  pg_snapshot: ['pg_current_snapshot()'],
  aclitem: ["'root=r/root'::aclitem"],
  anyelement: ['1', "'a'::text", "row(1,'x')::app.pair", 'null::app.holder', 'null::app.holds_evil', 'null::app.evil_domain'],
  anynonarray: ['1', "'a'::text", "row(1,'x')::app.pair"],
  anycompatible: ['1', "'a'::text"],
  anycompatiblenonarray: ['1'],
  anyarray: ['array[1,2]', "array[row(1,'x')::app.pair, row(2,'y')::app.pair]", "array['a'::text]"],
  anycompatiblearray: ['array[1,2]'],
  anyenum: ["'ok'::app.mood"],
  anyrange: ['int4range(1,5)', '\'["(1,a)","(2,b)"]\'::app.evil_range'],
  anymultirange: ['int4multirange(int4range(1,5))'],
  '"any"': ['1', "'a'::text", "'ok'::app.mood", 'null', '(i).name'],
  record: ["row(1,'a')", "row(1,'x')::app.pair"],
  'app.pair': ["row(1,'x')::app.pair"],
  'app.mood': ["'ok'::app.mood"],
  'app.items': ['i', "row(1,'a',1,1,now())::app.items"],
  'public.items': ["row(1,'a')::public.items"],
  cstring: ["'1'::cstring", "'x'::cstring"],
}

/** Something of the type, which more or less fits. */
export function somethingOf(type: string, random: Random): string {
  const plain = type.replace(/\(.*\)/, '')
  const pool = POOLS[plain] ?? POOLS[plain.replace(/^(pg_catalog|app|extensions)\./, '')] ?? POOLS[`app.${plain}`]
  if (pool) return random.pick(pool)
  if (type.endsWith('[]')) return `array[${somethingOf(type.slice(0, -2), random)}]::${type}`
  return random.pick([`null::${type}`, "'1'", "'{}'", '1'])
}

/** A call of it. The schema is written, or left to the search path. */
export function callOf(routine: Routine, random: Random): string {
  const args = routine.arguments.map((type) => somethingOf(type, random))
  // VARIADIC and defaults: a list that is shorter or longer may be right too.
  if (random.chance(0.05) && args.length > 0) args.pop()
  const name = /^[a-z_][a-z0-9_]*$/.test(routine.name) ? routine.name : `"${routine.name}"`
  const written = random.chance(routine.schema === 'pg_catalog' ? 0.75 : 0.3) ? name : `${routine.schema}.${name}`
  const call = `${written}(${args.join(', ')})`
  return routine.kind === 'w' ? `${call} over (order by i.id)` : call
}
