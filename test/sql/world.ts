/**
 * A database full of traps, for the oracle: everything that PostgreSQL lets an owner hide behind a name that looks like a
 * read. `app.wrote(...)` is the write that all of them end in; `calm` objects look the same and write nothing.
 *
 * `root` (superuser), `plain` (may write everything, row policies hold for it) and `shadowed` (with a search path that hides
 * the builtins) show what the statement check stops alone. `reader` is the one of production; `pinned` has the rights of
 * `plain` in a session as in production.
 */
export const SETTINGS: Readonly<Record<string, string>> = {
  autovacuum: 'off',
  fsync: 'off',
  max_connections: '40',
  shared_buffers: '32MB',
  // So that the WAL holds what statements write, and nothing that the server writes by itself.
  checkpoint_timeout: '1d',
  max_wal_size: '16GB',
  wal_level: 'logical',
  max_prepared_transactions: '4',
  shared_preload_libraries: 'pg_stat_statements',
  log_min_messages: 'log',
  jit: 'off',
}

export const USERS = ['root', 'plain', 'shadowed', 'pinned', 'reader'] as const
export type User = (typeof USERS)[number]

export const UNPINNED: readonly User[] = ['root', 'plain', 'shadowed']

/** `scratch`: a folder that the server may write. */
export const worldSql = (scratch: string): string => `
  create role plain login; create role shadowed login; create role pinned login;
  grant pg_read_all_data, pg_write_all_data to plain, shadowed, pinned;
  create schema app; create schema shadow; create schema extensions;
  grant all on schema app, shadow, public, extensions to plain, shadowed, pinned; grant usage on schema app, shadow, extensions to reader;
  create extension pg_walinspect schema extensions; create extension pg_stat_statements schema extensions;
  create extension dblink schema extensions; create extension file_fdw schema extensions; create extension postgres_fdw schema extensions;
  create extension pg_trgm schema extensions; create extension citext schema extensions; create extension hstore schema extensions;
  create extension intarray schema extensions; create extension ltree schema extensions; create extension tablefunc schema extensions;
  create extension pgcrypto schema extensions; create extension "uuid-ossp" schema extensions; create extension fuzzystrmatch schema extensions;
  create extension pageinspect schema extensions; create extension pgstattuple schema extensions; create extension pg_prewarm schema extensions;
  create extension amcheck schema extensions; create extension pg_visibility schema extensions; create extension pg_surgery schema extensions;
  create extension xml2 schema extensions; create extension lo schema extensions; create extension tsm_system_rows schema extensions;
  create extension unaccent schema extensions; create extension btree_gist schema extensions; create extension pgrowlocks schema extensions;

  -- what is written
  create table app.log (what text); create unlogged table app.unlogged_log (what text);
  create sequence app.counter; create unlogged sequence app.quiet_counter;
  create function app.wrote(what text) returns int language plpgsql volatile as
    $$ begin insert into app.log values (what); return 1; end $$;
  create function app.wrote_sql(what text) returns int language sql volatile as $$ insert into app.log values (what); select 1 $$;
  create function app.counted() returns bigint language sql volatile as $$ select nextval('app.counter') $$;
  create function app.counted_quietly() returns bigint language sql volatile as $$ select nextval('app.quiet_counter') $$;
  create procedure app.sweep() language plpgsql as $$ begin delete from app.log; commit; end $$;
  -- functions that lie about themselves
  create function app.liar_stable(n int) returns int language plpgsql stable as $$ begin return app.wrote('stable') + n; end $$;
  create function app.liar_immutable(n int) returns int language plpgsql immutable as $$ begin return app.wrote('immutable') + n; end $$;
  create function app.liar_counts(n int) returns int language plpgsql immutable parallel safe as $$ begin perform nextval('app.counter'); return n; end $$;
  create function app.liar_sql(n int) returns int language sql stable as $$ select app.wrote('stable sql') + n $$;
  create function app.as_owner(n int) returns int language plpgsql volatile security definer as $$ begin return app.wrote('definer') + n; end $$;
  create function app.as_owner_quietly(n int) returns int language plpgsql stable security definer as $$ begin return app.wrote('definer') + n; end $$;
  create function app.rows_of(n int) returns setof app.log language plpgsql volatile as $$ begin perform app.wrote('rows'); return query select * from app.log limit n; end $$;
  create function app.runs(sql text) returns text language plpgsql stable as $$ declare r text; begin execute sql into r; return r; end $$;
  create function app.calm(n int) returns int language sql immutable as $$ select n + 1 $$;
  create function app.calm_stable(n int) returns bigint language sql stable as $$ select count(*) + n from app.log $$;

  -- tables
  create type app.mood as enum ('sad', 'ok', 'happy');
  create type app.pair as (a int, b text);
  create domain app.calm_domain as int check (value > 0);
  create domain app.evil_domain as text check (app.wrote('domain') = 1);
  create domain app.evil_number as int check (app.wrote('domain') = 1);
  create domain app.evil_array as int[] check (app.wrote('domain') = 1);
  create type app.holds_evil as (a int, e app.evil_domain);
  create table app.everything (id int primary key, i2 int2, i8 int8, n numeric, f4 float4, f8 float8, b bool, t text, vc varchar(20), ch char(5), by bytea,
    d date, ts timestamp, tstz timestamptz, tm time, iv interval, u uuid, j json, jb jsonb, x xml, ia int[], ta text[], ip inet, cd cidr, mac macaddr,
    pt point, bx box, sg lseg, pg polygon, ci circle, r int4range, nr numrange, tr tstzrange, mr int4multirange, tv tsvector, tq tsquery,
    bt bit(4), vb varbit, mo app.mood, dm app.calm_domain, co app.pair, ca app.pair[], m money, o oid, rc regclass, nm name, h extensions.hstore, cit extensions.citext, lt extensions.ltree);
  insert into app.everything select i, i, i, i, i, i, i % 2 = 0, 'text ' || i, 'v' || i, 'c' || i, 'x', now(), now(), now(), now()::time, '1 hour', gen_random_uuid(),
    '{"a":1}', '{"a":[1,2]}', '<r><i>1</i></r>', array[i, 2], array['a'], '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', '(1,2),(3,4)', '[(0,0),(1,1)]',
    '((0,0),(1,1),(1,0))', '<(0,0),1>', '[1,5)', '[1,5)', '[2020-01-01,2021-01-01)', '{[1,2)}', 'a:1 b:2', 'a & b', '1010', '101', 'ok', 1, row(i, 'x'::text)::app.pair, array[row(i, 'x'::text)::app.pair],
    1.5, 1, 'pg_class', 'nm', 'a=>1', 'Cit', 'a.b' from generate_series(1, 12) i;
  create table app.items (id int generated always as identity primary key, name text not null unique, qty int default 1, price numeric(10,2), at timestamptz default now());
  insert into app.items (name, qty, price) select 'item ' || i, i, i * 1.5 from generate_series(1, 25) i;
  create table app.sales (id bigserial, item int, day date not null, n int, primary key (id, day)) partition by range (day);
  create table app.sales_old partition of app.sales for values from ('2000-01-01') to ('2024-01-01');
  create table app.sales_new partition of app.sales default;
  insert into app.sales (item, day, n) select i, date '2023-12-20' + i, i from generate_series(1, 30) i;
  create table app.parent (id int, name text); create table app.child (extra int) inherits (app.parent);
  insert into app.parent values (1, 'p'); insert into app.child values (2, 'c', 3);
  create table app.holder (id int, e app.evil_domain, p app.holds_evil, n int);
  insert into app.holder values (1, 'x', row(1, 'y')::app.holds_evil, 1);
  create index on app.items (lower(name)); create index on app.everything using gin (jb); create index on app.everything using gin (tv);
  create table public.items (id int, note text); insert into public.items values (1, 'public'), (2, 'two');
  create unlogged table app.fast (id int); insert into app.fast values (1);
  create statistics app.together (dependencies) on id, qty from app.items;
  create publication pub for table app.items;
  select lo_from_bytea(77, 'large');

  -- views
  create view app.calm_view as select id, upper(name) as name, qty from app.items where qty > 1;
  create view app.calm_barrier with (security_barrier) as select * from app.items;
  create view app.calm_invoker with (security_invoker) as select * from app.items;
  create view app.trap as select app.wrote('view') as n;
  create view app.trap_where as select * from app.items where app.wrote('view where') = 1;
  create view app.trap_deep as select v.id, t.n from app.calm_view v, app.trap t;
  create view app.trap_counter as select nextval('app.counter') as n;
  create view app.trap_lock as select * from app.items for update;
  create view app.trap_advisory as select pg_try_advisory_lock(4) as got;
  create view app.trap_settings as select set_config('standard_conforming_strings', 'off', false) as s;
  create view app.trap_operator as select id operator(pg_catalog.+) 1 as n, app.liar_stable(id) from app.items;
  create view app.trap_domain as select name::app.evil_domain as d from app.items;
  create view app.trap_values as values (app.wrote('values'));
  create recursive view app.calm_recursive (n) as select 1 union all select n + 1 from calm_recursive where n < 5;
  create materialized view app.calm_mat as select app.wrote('materialized') as n;
  create function app.log_change() returns trigger language plpgsql as $$ begin insert into app.log values ('trigger'); return new; end $$;
  create trigger noted before insert or update on app.items for each row execute function app.log_change();
  create table app.ruled (id int); create rule also as on insert to app.ruled do also insert into app.log values ('rule');
  create view app.writable as select * from app.items; create rule instead_of as on update to app.writable do instead insert into app.log values ('instead');

  -- row policies: for everybody but the owner and superusers
  create table app.guarded (id int, owner text); insert into app.guarded values (1, 'a'), (2, 'b');
  alter table app.guarded enable row level security;
  create policy watched on app.guarded using (app.wrote('policy') = 1);
  create table app.guarded_calmly (id int, owner text); insert into app.guarded_calmly values (1, 'a');
  alter table app.guarded_calmly enable row level security; create policy calm on app.guarded_calmly using (id > 0);
  create view app.guarded_view with (security_invoker) as select * from app.guarded;

  -- functional notation, overloads of builtins
  create function app.peek(app.items) returns int language sql volatile as $$ select app.wrote('column of a row') $$;
  create function app.peek(public.items) returns int language sql volatile as $$ select app.wrote('column of a row') $$;
  create function app.length(app.items) returns int language sql volatile as $$ select app.wrote('length') $$;
  create function app.lower(app.pair) returns text language sql volatile as $$ select app.wrote('lower')::text $$;
  create function app.abs(text) returns int language sql volatile as $$ select app.wrote('abs') $$;
  create function app.upper(int) returns text language sql stable as $$ select app.wrote('upper')::text $$;
  create function app.coalesce(int, text) returns int language sql volatile as $$ select app.wrote('coalesce') $$;
  create function public.concat(int, int) returns text language sql volatile as $$ select app.wrote('concat')::text $$;
  create function app.version(text default 'x') returns int language sql volatile as $$ select app.wrote('version') $$;
  create function app.name(app.items) returns text language sql volatile as $$ select app.wrote('hidden by a column')::text $$;

  -- operators, casts, aggregates
  create function app.op(int, text) returns bool language plpgsql volatile as $$ begin perform app.wrote('operator'); return true; end $$;
  create function app.op(text, int) returns bool language plpgsql volatile as $$ begin perform app.wrote('operator'); return true; end $$;
  create function app.op(app.pair, app.pair) returns bool language plpgsql immutable as $$ begin perform app.wrote('operator'); return true; end $$;
  create function app.op1(app.pair) returns bool language plpgsql volatile as $$ begin perform app.wrote('operator'); return true; end $$;
  create operator public.= (leftarg = int, rightarg = text, function = app.op);
  create operator public.~~ (leftarg = int, rightarg = text, function = app.op);
  create operator public.+ (leftarg = text, rightarg = int, function = app.op);
  create operator public.< (leftarg = app.pair, rightarg = app.pair, function = app.op);
  create operator app.<=> (leftarg = int, rightarg = text, function = app.op);
  create operator public.@# (rightarg = app.pair, function = app.op1);
  create function app.to_pair(int) returns app.pair language plpgsql volatile as $$ begin perform app.wrote('cast'); return row($1, 'x')::app.pair; end $$;
  create function app.to_mood(bool) returns app.mood language plpgsql volatile as $$ begin perform app.wrote('cast'); return 'ok'; end $$;
  create function app.from_mood(app.mood) returns int language plpgsql immutable as $$ begin return app.wrote('cast'); end $$;
  create cast (int as app.pair) with function app.to_pair(int) as implicit;
  create cast (bool as app.mood) with function app.to_mood(bool);
  create cast (app.mood as int) with function app.from_mood(app.mood) as implicit;
  create function app.takes_pair(app.pair) returns int language sql immutable as $$ select $1.a $$;
  create function app.step(int, int) returns int language plpgsql volatile as $$ begin return app.wrote('aggregate'); end $$;
  create aggregate app.evil_sum(int) (sfunc = app.step, stype = int, initcond = '0');
  create function app.step_pair(int, app.pair) returns int language plpgsql volatile as $$ begin return app.wrote('aggregate'); end $$;
  create function app.step_bool(int, bool) returns int language plpgsql volatile as $$ begin return app.wrote('aggregate'); end $$;
  create aggregate app.sum(app.pair) (sfunc = app.step_pair, stype = int, initcond = '0');
  create aggregate public.max(bool) (sfunc = app.step_bool, stype = int, initcond = '0');
  -- a range whose order is the owner's code, and the default order of a type
  create function app.compare(app.pair, app.pair) returns int language plpgsql immutable as $$ begin perform app.wrote('order'); return 0; end $$;
  create function app.same(app.pair, app.pair) returns bool language plpgsql immutable as $$ begin perform app.wrote('order'); return true; end $$;
  create operator app.<< (leftarg = app.pair, rightarg = app.pair, function = app.same);
  create operator app.<<= (leftarg = app.pair, rightarg = app.pair, function = app.same);
  create operator app.== (leftarg = app.pair, rightarg = app.pair, function = app.same);
  create operator app.>>= (leftarg = app.pair, rightarg = app.pair, function = app.same);
  create operator app.>> (leftarg = app.pair, rightarg = app.pair, function = app.same);
  create operator class app.pairs default for type app.pair using btree as
    operator 1 app.<<, operator 2 app.<<=, operator 3 app.==, operator 4 app.>>=, operator 5 app.>>, function 1 app.compare(app.pair, app.pair);
  create type app.evil_range as range (subtype = app.pair, subtype_opclass = app.pairs);

  -- another server, which is this one
  create server files foreign data wrapper file_fdw;
  create foreign table app.program (line text) server files options (program 'echo x >> ${scratch}/program; echo x');
  create foreign table app.file (line text) server files options (filename '/etc/hostname');

  -- names of the system in another schema
  create view shadow.pg_class as select app.wrote('pg_class') as oid, 'x'::name as relname;
  create view shadow.items as select app.wrote('items') as id;
  create view shadow.pg_stat_user_tables as select app.wrote('stat') as relid;
  create function shadow.lower(text) returns text language sql volatile as $$ select app.wrote('lower')::text $$;
  create function shadow.now() returns timestamptz language sql volatile as $$ select clock_timestamp() from (select app.wrote('now')) q $$;
  create function shadow.count() returns int language sql volatile as $$ select app.wrote('count') $$;
  create function shadow.current_database() returns text language sql volatile as $$ select app.wrote('database')::text $$;
  create function shadow.version() returns text language sql stable as $$ select app.wrote('version')::text $$;
  create function shadow.op(int, int) returns bool language plpgsql volatile as $$ begin perform app.wrote('operator'); return true; end $$;
  create operator shadow.= (leftarg = int, rightarg = int, function = shadow.op);
  create operator shadow.+ (leftarg = int, rightarg = int, function = shadow.op);
  create operator shadow.<> (leftarg = int, rightarg = int, function = shadow.op);
  create domain shadow.text as pg_catalog.text check (app.wrote('text') = 1);
  create domain shadow.date as pg_catalog.date check (app.wrote('date') = 1);
  create domain shadow.uuid as pg_catalog.uuid check (app.wrote('uuid') = 1);

  grant select on all tables in schema app, public, shadow to reader;
  grant usage, select, update on all sequences in schema app, public to reader, plain, shadowed, pinned;
  alter role plain set search_path = public, app, extensions;
  alter role pinned set search_path = public, app, extensions;
  alter role root set search_path = public, app, extensions;
  alter role reader set search_path = public, app, extensions;
  alter role shadowed set search_path = shadow, pg_catalog, public, app;
  ${USERS.map((user) => `alter role ${user} set statement_timeout = '400ms'; alter role ${user} set lock_timeout = '200ms';`).join(' ')}
`
