import type { Random } from './random.ts'
import { callOf, type Routine } from './routines.ts'

/**
 * Statements out of a grammar, with a taste for what has got past others (threats.md 7): writes in every corner of a
 * read, names that mean something else, code of the owner's behind operators, casts, columns, domains and orders.
 * Texts may hold `:pid` (of a session that must live on) and `:scratch` (a folder), filled in when they are sent.
 */
export class Grammar {
  readonly #random: Random
  readonly #routines: readonly Routine[]
  readonly #common: readonly Routine[]
  readonly #own: readonly Routine[]

  /** `isCommon`: pg_catalog functions worth calling often, because they may pass. */
  constructor(random: Random, routines: readonly Routine[], isCommon: (name: string) => boolean) {
    this.#random = random
    this.#routines = routines
    this.#common = routines.filter(({ schema, name }) => schema === 'pg_catalog' && isCommon(name))
    this.#own = routines.filter(({ schema }) => schema === 'app' || schema === 'shadow' || schema === 'public')
  }

  statement(): string {
    const r = this.#random
    const share = r.next()
    if (share < 0.52) return this.query(3)
    if (share < 0.6) return `select ${this.#anyCall()}`
    if (share < 0.66) return `select * from ${this.#anyCall()} as q`
    if (share < 0.72) return this.#explain()
    if (share < 0.76) return this.#copy()
    if (share < 0.82) return this.session()
    if (share < 0.87) return this.#change(2)
    if (share < 0.9) return r.pick(CONTROL)
    if (share < 0.94) return this.#prepared()
    if (share < 0.96) return `${this.query(1)}; ${this.#change(1)}`
    return r.pick(UTILITY)
  }

  query(depth: number): string {
    const r = this.#random
    const core = r.oneOf(
      () => this.#select(depth),
      () => this.#select(depth),
      () => this.#select(depth),
      () => this.#select(depth),
      () => `values (${this.#expression(depth)}, ${this.#expression(depth)})`,
      () => `table ${this.#table()}`,
      () => `(${this.#select(depth)}) ${r.pick(['union', 'union all', 'intersect', 'except'])} (${this.#select(depth)})`,
    )
    const before = depth > 0 && r.chance(0.2) ? this.#with(depth) : ''
    return before + core + this.#tail(depth)
  }

  #with(depth: number): string {
    const r = this.#random
    const parts = r.some(2, () => {
      const name = r.pick(['w', 'd', 'items', 'log', 'pg_class', 'x'])
      const inner = r.chance(0.18) ? `${this.#change(depth - 1)} returning *` : this.query(depth - 1)
      return `${name} as ${r.pick(['', '', 'materialized ', 'not materialized '])}(${inner})`
    })
    return `with ${r.chance(0.15) ? 'recursive ' : ''}${parts.join(', ')} `
  }

  #tail(depth: number): string {
    const r = this.#random
    let tail = ''
    if (r.chance(0.15))
      tail += ` order by ${r.pick(['1', '1 desc nulls last', 'random()', this.#expression(depth - 1), '1 using operator(pg_catalog.<)', '1 using <'])}`
    if (r.chance(0.2))
      tail += ` ${r.pick(['limit 3', 'limit 1 offset 1', 'fetch first 2 rows only', 'fetch first 1 row with ties', `limit (${this.#expression(1)})::int`])}`
    if (r.chance(0.03)) tail += ` ${r.pick(['for update', 'for share', 'for no key update of i', 'for key share skip locked', 'for update nowait'])}`
    return tail
  }

  #select(depth: number): string {
    const r = this.#random
    const targets = r.some(3, () => this.#target(depth))
    const from = r.chance(0.88) ? ` from ${this.#from(depth)}` : ''
    const into = r.chance(0.01) ? ` into ${r.pick(['', 'temp ', 'unlogged '])}evil_copy` : ''
    const where = r.chance(0.4) ? ` where ${this.#condition(depth)}` : ''
    const group = r.chance(0.08) ? ` group by ${r.pick(['1', 'i.id', 'rollup (i.id)', 'grouping sets ((i.id), ())', this.#expression(1)])}` : ''
    const having = group && r.chance(0.4) ? ` having ${this.#condition(depth - 1)}` : ''
    const window = r.chance(0.04) ? ' window win as (partition by i.id order by i.id)' : ''
    return `select ${r.chance(0.1) ? r.pick(['distinct ', 'distinct on (1) ', 'all ']) : ''}${targets.join(', ')}${into}${from}${where}${group}${having}${window}`
  }

  #target(depth: number): string {
    const r = this.#random
    return r.oneOf(
      () =>
        r.pick([
          '*',
          'i.*',
          'i',
          'i.id',
          'count(*)',
          '(i).name',
          'i.peek',
          '(i).peek',
          'i.length',
          'i.name',
          'peek(i)',
          'app.length(i)',
          '(i.*)::text',
          'i.ctid',
          'i.tableoid::regclass',
        ]),
      () => this.#expression(depth),
      () => `${this.#expression(depth)} as ${r.pick(['a', '"B"', 'name', 'x'])}`,
      () => this.#expression(depth),
    )
  }

  /** The first thing in it is called `i`. */
  #from(depth: number): string {
    const r = this.#random
    let text = this.#source(depth, 'i')
    if (depth > 0 && r.chance(0.25)) {
      const right = this.#source(depth - 1, 'k')
      text += r.oneOf(
        () => ` ${r.pick(['join', 'left join', 'right join', 'full join'])} ${right} on ${this.#condition(depth - 1)}`,
        () => ` cross join ${right}`,
        () => ` natural join ${right}`,
        () => ` join ${right} using (id)`,
        () => `, ${right}`,
      )
    }
    return text
  }

  #source(depth: number, alias: string): string {
    const r = this.#random
    return r.oneOf(
      () => `${this.#table()} ${alias}`,
      () => `${this.#table()} ${alias}`,
      () => `only (${r.pick(TABLES)}) ${alias}`,
      () => `app.items ${alias} tablesample ${r.pick(['bernoulli', 'system', 'system_rows', 'extensions.system_rows'])} (50)`,
      () => (depth > 0 ? `${r.pick(['', 'lateral '])}(${this.query(depth - 1)}) ${alias}` : `app.items ${alias}`),
      () => `generate_series(1, 3) ${alias} (id)`,
      () => `${this.#anyCall()} ${alias}`,
      () => `rows from (${this.#anyCall()}, generate_series(1, 2)) with ordinality ${alias}`,
      () => `json_to_recordset('[{"id":1,"e":"x"}]') as ${alias} (id int, e ${r.pick(TYPES)})`,
      () => `json_populate_record(null::${r.pick(ROWS)}, '{"id":"1","e":"x","a":"1"}') ${alias}`,
      () =>
        `xmltable('/r/i' passing ('<r><i>1</i></r>'::xml) columns id int path '.', v ${r.pick(TYPES)} path '.' default ${this.#expression(0)}) ${alias}`,
      () => `json_table('[1]', '$[*]' columns (id for ordinality, v ${r.pick(TYPES)} path '$' default ${this.#expression(0)} on empty)) ${alias}`,
    )
  }

  #table(): string {
    const r = this.#random
    return r.chance(0.75) ? r.pick(TABLES) : r.pick(TRAPS)
  }

  #condition(depth: number): string {
    const r = this.#random
    return r.oneOf(
      () => 'i.id = 1',
      () => `i.id ${r.pick(['=', '<', '>', '<>', '+'])} ${this.#expression(depth - 1)}`,
      () => `${this.#expression(depth - 1)} ${r.pick(OPERATORS)} ${this.#expression(depth - 1)}`,
      () =>
        `${this.#expression(depth - 1)} is ${r.pick(['', 'not '])}${r.pick(['null', 'true', `distinct from ${this.#expression(0)}`, 'json', 'document'])}`,
      () => `${this.#expression(depth - 1)} ${r.pick(['', 'not '])}in (${this.#expression(depth - 1)}, ${this.#expression(depth - 1)})`,
      () => (depth > 0 ? `${r.pick(['', 'not '])}exists (${this.query(depth - 1)})` : 'true'),
      () => (depth > 0 ? `i.id ${r.pick(['=', '<>', '<'])} ${r.pick(['any', 'all', 'some'])} (${this.query(depth - 1)})` : 'true'),
      () =>
        `${this.#expression(depth - 1)} ${r.pick(['', 'not '])}between ${r.pick(['', 'symmetric '])}${this.#expression(0)} and ${this.#expression(0)}`,
      () => `${this.#expression(depth - 1)} ${r.pick(['like', 'ilike', 'similar to', '~', '!~*'])} ${r.pick(["'a%'", this.#expression(0)])}`,
      () => `(${this.#condition(Math.max(0, depth - 1))}) ${r.pick(['and', 'or'])} (${depth > 0 ? this.#condition(depth - 1) : 'true'})`,
    )
  }

  #expression(depth: number): string {
    const r = this.#random
    if (depth <= 0)
      return r.oneOf(
        () => r.pick(LITERALS),
        () => r.pick(COLUMNS),
        () => `${r.pick(QUOTED)}::${r.pick(TYPES)}`,
      )
    const inner = () => this.#expression(depth - 1)
    return r.oneOf(
      () => r.pick(LITERALS),
      () => r.pick(COLUMNS),
      () => r.pick(COLUMNS),
      () => callOf(r.pick(this.#common), r),
      () => callOf(r.pick(this.#common), r),
      () => callOf(r.pick(this.#common), r),
      () => callOf(r.pick(this.#own), r),
      () => `${r.pick(CALLS)}(${inner()})`,
      () => `${inner()} ${r.pick(OPERATORS)} ${inner()}`,
      () => `(${inner()})::${r.pick(TYPES)}`,
      () => `cast(${inner()} as ${r.pick(TYPES)})`,
      () => `${r.pick(TYPES)} ${r.pick(QUOTED)}`,
      () => `${r.pick(QUOTED)}::${r.pick(TYPES)}`,
      () => `case ${r.chance(0.4) ? inner() : ''} when ${inner()} then ${inner()} else ${inner()} end`,
      () => `${r.pick(['coalesce', 'nullif', 'greatest', 'least', 'concat'])}(${inner()}, ${inner()})`,
      () => `(${this.query(depth - 1)})`,
      () => `array(${this.query(depth - 1)})`,
      () => `array[${inner()}, ${inner()}]`,
      () => `row(${inner()}, ${inner()})${r.pick(['', '::app.pair', '::app.holds_evil'])}`,
      () =>
        `${r.pick(AGGREGATES)}(${r.pick(['', 'distinct '])}${inner()}${r.chance(0.2) ? ` order by ${inner()}` : ''})${r.chance(0.2) ? ` filter (where ${this.#condition(depth - 1)})` : ''}`,
      () =>
        `${r.pick(['sum', 'count', 'max', 'app.evil_sum', 'app.sum'])}(${inner()}) over (${r.pick(['', 'win'])}${r.chance(0.5) ? ` order by ${inner()}` : ''})`,
      () => `percentile_disc(0.5) within group (order by ${inner()})`,
      () => `${inner()} at time zone ${r.pick(["'utc'", inner()])}`,
      () => `${inner()} collate ${r.pick(['"C"', '"default"', 'pg_catalog."C"'])}`,
      () => `(${inner()})[${inner()}]`,
      () => `(${inner()}).${r.pick(['a', 'peek', 'length', 'lower', 'name', 'text', 'takes_pair'])}`,
      () => `json_serialize(json_object('k': ${inner()}))`,
      () => `json_value('{"a":"x"}', '$.a' returning ${r.pick(TYPES)} default ${inner()} on empty)`,
      () => `json_query('{"a":{"e":"x"}}', '$.a' returning ${r.pick(ROWS)})`,
      () => `xmlforest(${inner()} as a)`,
      () => `extract(epoch from ${inner()})`,
      () => `not ${inner()}`,
    )
  }

  #anyCall(): string {
    const r = this.#random
    const share = r.next()
    return callOf(share < 0.5 ? r.pick(this.#common) : share < 0.7 ? r.pick(this.#own) : r.pick(this.#routines), r)
  }

  #change(depth: number): string {
    const r = this.#random
    const value = () => this.#expression(depth - 1)
    return r.oneOf(
      () => `insert into app.log values (${value()}::text)`,
      () => `insert into app.items (name) values ('n') on conflict (name) do ${r.pick(['nothing', 'update set qty = 2'])}`,
      () => `insert into ${r.pick(TABLES)} default values`,
      () => `update app.items i set qty = ${value()} where ${this.#condition(depth - 1)}`,
      () => `delete from ${r.pick(TABLES)} i where ${this.#condition(depth - 1)}`,
      () =>
        `merge into app.items i using (${this.query(Math.max(0, depth - 1))}) s on i.id = 1 when matched then ${r.pick(['delete', 'update set qty = 9', 'do nothing'])} when not matched then insert (name) values ('m')`,
      () => `truncate ${r.pick(TABLES)}`,
    )
  }

  #explain(): string {
    const r = this.#random
    const options = r.pick([
      '',
      '',
      'analyze ',
      'verbose ',
      'analyze verbose ',
      '(analyze) ',
      '(analyze off) ',
      '(analyze off, analyze on) ',
      '(analyze, analyze false) ',
      '(ANALYZE 1, buffers) ',
      '("analyze" on) ',
      '(generic_plan) ',
      '(format json, verbose) ',
      '(analyze, serialize text) ',
      '(analyze 0, timing off) ',
    ])
    return `explain ${options}${r.oneOf(
      () => this.query(2),
      () => this.#change(2),
      () => `create ${r.pick(['', 'temp '])}table evil as ${this.query(1)}`,
      () => `declare c cursor for ${this.query(1)}`,
      () => 'execute p',
      () => 'refresh materialized view app.calm_mat',
    )}`
  }

  #copy(): string {
    const r = this.#random
    const what = r.oneOf(
      () => r.pick(TABLES),
      () => r.pick(TRAPS),
      () => `(${this.query(2)})`,
      () => `(${this.query(2)})`,
      () => `(${this.#change(2)} returning *)`,
    )
    return r.chance(0.75)
      ? `copy ${what} to ${r.pick(['stdout', 'stdout', 'stdout', 'stdout (format csv, header)', 'stdout (format binary)', "':scratch/out'", "program 'echo x > :scratch/out'"])}`
      : `copy ${r.pick(TABLES)} from ${r.pick(['stdin', "'/etc/hostname'", "program 'echo 1'", 'stdin (on_error ignore)'])}`
  }

  /** Settings, roles, the search path. */
  session(): string {
    const r = this.#random
    return r.oneOf(
      () => r.pick(SESSION),
      () =>
        `set ${r.pick(['', 'local ', 'session '])}search_path to ${r.some(3, () => r.pick(['shadow', 'public', 'app', 'pg_catalog', 'extensions', 'pg_temp'])).join(', ')}`,
      () =>
        `select ${r.pick(['', 'pg_catalog.'])}set_config(${r.pick(["'search_path'", "'standard_conforming_strings'", "'work_mem'", "'role'", "'default_transaction_read_only'", "'search_' || 'path'", "'application_name'", "'transaction_read_only'"])}, ${r.pick(["'shadow, pg_catalog'", "'off'", "'root'", "'x'"])}, ${r.pick(['true', 'false'])})`,
    )
  }

  #prepared(): string {
    const r = this.#random
    return r.oneOf(
      () => `prepare p as ${r.chance(0.7) ? this.query(2) : this.#change(2)}`,
      () => `prepare p (int, text) as select $1, $2::app.evil_domain from app.items where id = $1`,
      () =>
        r.pick([
          'execute p',
          "execute p (1, 'x')",
          'deallocate p',
          'deallocate all',
          'execute p (app.liar_stable(1), null)',
          'execute p (app.counted())',
        ]),
      () =>
        `declare c ${r.pick(['', 'scroll ', 'binary ', 'insensitive ', 'no scroll '])}cursor ${r.pick(['', '', 'with hold ', 'without hold '])}for ${this.query(2)}`,
      () => r.pick(['fetch c', 'fetch all from c', 'move 2 in c', 'fetch backward 1 from c', 'close c', 'close all', 'fetch absolute 1 from c']),
    )
  }
}

const TABLES =
  `app.items items app.everything everything app.sales app.sales_old app.parent app.child only/app.parent app.holder app.calm_view calm_barrier app.calm_invoker
  app.calm_recursive app.calm_mat app.guarded_calmly public.items app.log log app.fast app.ruled app.writable app.counter pg_class pg_catalog.pg_proc pg_attribute pg_type
  information_schema.columns information_schema.tables pg_settings pg_sequences pg_stat_user_tables pg_locks pg_views pg_constraint pg_index pg_database pg_roles`
    .split(/\s+/)
    .map((name) => name.replace('/', ' '))
const TRAPS =
  `app.trap trap app.trap_where app.trap_deep app.trap_counter app.trap_lock app.trap_advisory app.trap_settings app.trap_operator app.trap_domain app.trap_values app.guarded guarded
  app.guarded_view app.program app.file shadow.items shadow.pg_class pg_stats pg_stat_activity pg_cursors pg_prepared_statements pg_largeobject extensions.pg_stat_statements pg_authid`.split(
    /\s+/,
  )
const ROWS = ['app.holder', 'app.holds_evil', 'app.pair', 'app.items', 'holder', 'public.items']
const TYPES =
  `int int bigint numeric text text date timestamptz uuid json jsonb xml bool varchar(10) char(3) name oid regclass regtype regprocedure interval inet point int4range tsvector tsquery bytea money
  int[] text[] app.pair pair app.mood mood app.calm_domain app.evil_domain evil_domain app.evil_number app.holds_evil app.holds_evil[] app.evil_domain[] app.evil_range app.items holder
  shadow.text shadow.date pg_catalog.text extensions.citext extensions.hstore ltree record cstring float8 refcursor xid`.split(/\s+/)
const OPERATORS =
  '= = <> < > <= >= + - * / % || && @> <@ ~~ !~~ ~ ~* # & | << >> -> ->> #> #>> ? @@ @? <-> ^ ^@ - operator(pg_catalog.=) operator(app.<=>) operator(public.=) operator(shadow.=) <=> @# is/distinct/from operator(extensions.%)'
    .split(' ')
    .map((name) => name.replaceAll('/', ' '))
const COLUMNS =
  `i.id i.id i.name i.qty i.price i.at i.t i.jb i.j i.ia i.ta i.mo i.co i.dm i.ca i.h i.cit i.r i.tv i.ts i.d i.e i.p id name qty i i.relname i.oid i.x i.pt (i.co).a i.xmin`.split(
    ' ',
  )
const LITERALS = [
  `1`,
  `0`,
  `2`,
  `'a'`,
  `'1'`,
  `null`,
  `true`,
  `1.5`,
  `''`,
  `'{"a":1}'::jsonb`,
  `now()`,
  `current_user`,
  `current_date`,
  `array[1,2]`,
  `row(1,'x')`,
  `row(1,'x')::app.pair`,
  `'app.counter'`,
  `E'\\x41'`,
  `U&'\\0061'`,
  `$$a$$`,
  `b'101'`,
  `'ok'::app.mood`,
  `'app.items'::regclass`,
  `session_user`,
  `localtimestamp`,
  `interval '1 day'`,
  `date '2024-01-01'`,
]
const QUOTED = [
  `'1'`,
  `'(1,x)'`,
  `'x'`,
  `'{1,2}'`,
  `'{"(1,x)"}'`,
  `'2024-01-01'`,
  `'["(1,a)","(2,b)"]'`,
  `'(1,x,"(1,y)",1)'`,
  `'ok'`,
  `'app.items'`,
  `null`,
  `'{"a":1,"e":"x"}'`,
]
const CALLS =
  `count sum max min avg lower upper length abs md5 to_json to_jsonb row_to_json string_to_table unnest array_agg format quote_literal pg_typeof nextval currval setval lastval app.wrote app.liar_stable app.liar_immutable
  app.liar_counts app.calm app.calm_stable app.as_owner app.as_owner_quietly app.peek app.takes_pair takes_pair app.counted wrote counted version concat pg_advisory_lock pg_sleep pg_notify lo_create lo_unlink pg_terminate_backend
  pg_input_is_valid query_to_xml app.runs dblink extensions.dblink_exec pg_read_file current_setting set_config to_regclass to_regtype pg_get_viewdef pg_relation_size txid_current pg_current_xact_id shadow.lower now`.split(
    /\s+/,
  )
const AGGREGATES =
  'count sum max min array_agg string_agg json_agg bool_or app.evil_sum app.sum public.max mode avg jsonb_agg any_value range_agg'.split(' ')

const CONTROL =
  `begin|begin|commit|commit|rollback|end|abort|start transaction|start transaction read only|start transaction read write|begin read write|begin isolation level serializable, read only, deferrable|begin read only
  |set transaction read write|set transaction read only|set transaction isolation level repeatable read|savepoint s|savepoint s|rollback to s|release s|commit and chain|rollback and chain|prepare transaction 'x'|commit prepared 'x'
  |rollback prepared 'x'|set session characteristics as transaction read write|set transaction snapshot '00000003-1'|commit; begin read write|rollback; insert into app.log values ('x')`
    .split('|')
    .map((text) => text.trim())

const SESSION =
  `set standard_conforming_strings = off|set client_encoding = 'SJIS'|set names 'LATIN1'|set default_transaction_read_only = off|set transaction_read_only = off|reset all|discard all|discard plans|discard temp|discard sequences|set role plain|set role none|reset role
  |set session authorization plain|reset session authorization|set local role root|set row_security = off|set work_mem = '1MB'|set statement_timeout = 0|set statement_timeout = 100|reset statement_timeout|set session_replication_role = replica|set datestyle = 'ISO'
  |set timezone = 'UTC'|set application_name = 'x'|set extra_float_digits = 3|set enable_seqscan = off|reset search_path|set search_path to default|set schema 'shadow'|set search_path from current|reset default_transaction_read_only|show all|show search_path
  |set plan_cache_mode = force_generic_plan|set backslash_quote = on|set escape_string_warning = off|set quote_all_identifiers = on|set xmloption = document|set chaperone.user = 'x'|set local_preload_libraries = 'x'|set log_statement = 'all'|set temp_tablespaces = ''|set lc_messages = 'C'
  |set default_table_access_method = 'heap'|set lo_compat_privileges = on|set check_function_bodies = off|set array_nulls = off|set transform_null_equals = on|set default_text_search_config = 'simple'|set jit_debugging_support = on|set intervalstyle = sql_standard`
    .split('|')
    .map((text) => text.trim())

const UTILITY =
  `do $$ begin insert into app.log values ('do'); end $$|call app.sweep()|lock table app.items in access exclusive mode|lock app.items in access share mode|notify c1|notify c1, 'x'|listen c1|unlisten *|checkpoint|vacuum|vacuum app.items|analyze|analyze app.items|cluster|reindex table app.items
  |create table app.evil (a int)|create temp table evil (a int)|create view app.evil as select 1|create function app.evil() returns int language sql as 'select 1'|create schema evil|create sequence app.evil|create role evil|create index on app.items (qty)|create extension pgcrypto
  |create type app.evil as enum ('a')|create domain app.evil as int|create materialized view app.evil as select 1|create trigger t before insert on app.items execute function app.log_change()|create rule r as on select to app.log do instead select 1|create policy p on app.items|create publication p2
  |create server s2 foreign data wrapper file_fdw|create cast (int as app.mood) with inout|create operator app.%% (rightarg = int, function = app.calm)|create aggregate app.a (int) (sfunc = app.step, stype = int)|create event trigger e on ddl_command_start execute function app.log_change()|create statistics app.st on id, qty from app.items
  |drop table app.items|drop table app.log cascade|drop function app.calm(int)|drop schema app cascade|drop owned by plain|drop role evil|alter table app.items add column z int|alter role plain set search_path = x|alter database shop set work_mem = '1MB'|alter system set work_mem = '1MB'|alter sequence app.counter restart
  |alter default privileges grant select on tables to public|alter view app.calm_view rename to v|grant all on app.items to public|revoke all on app.items from reader|comment on table app.items is 'evil'|security label on table app.items is 'x'|reassign owned by plain to root|refresh materialized view app.calm_mat
  |import foreign schema x from server files into app|load 'auto_explain'|truncate app.log|copy app.items from stdin|select * into app.evil from app.items|create table app.evil as select 1|create table app.evil as execute p|create user mapping for public server files|alter large object 77 owner to plain|create subscription s connection 'x' publication y
  |create access method m type index handler bthandler|create text search configuration app.cfg (copy = simple)|create collation app.c (locale = 'C')|create conversion app.cv for 'UTF8' to 'LATIN1' from utf8_to_iso8859_1|create tablespace ts location '/tmp'|create transform for int language sql (from sql with function app.calm(int))
  |handler app.items open|merge into app.log using app.items on false when not matched then insert values ('m')|;|/* empty */|-- nothing|select|table app.items; drop table app.log|with w as (insert into app.log values ('cte') returning what) table w|wait for lsn '0/1'|repack app.items`
    .split('|')
    .map((text) => text.trim())
