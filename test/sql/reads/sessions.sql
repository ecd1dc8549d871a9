-- what drivers and poolers say around their queries: settings, transactions, cursors, prepared statements
--;
SET extra_float_digits = 3
--;
SET application_name = 'PostgreSQL JDBC Driver'
--;
SET client_min_messages TO warning; SET standard_conforming_strings = on; SET SESSION timezone TO 'UTC'; SET intervalstyle = iso_8601
--;
SET client_encoding TO 'UTF8'
--;
set client_encoding to 'utf-8'
--;
SET DateStyle=ISO; SET client_min_messages=notice; SELECT set_config('bytea_output','hex',false) FROM pg_show_all_settings() WHERE name = 'bytea_output'; SET client_encoding='utf-8'
--;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
--;
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED
--;
SET search_path TO sales, public
--;
SET search_path = "$user", public
--;
set search_path to 'sales'
--;
SET SCHEMA 'public'
--;
select set_config('search_path', 'public, sales', false)
--;
SELECT pg_catalog.set_config('search_path', '', false)
--;
RESET search_path
--;
SET statement_timeout = '30s'; SET lock_timeout = 5000; SET idle_in_transaction_session_timeout = '1min'
--;
RESET statement_timeout
--;
SET enable_seqscan TO off; SET jit = off; SET plan_cache_mode = force_custom_plan; SET random_page_cost = 1.1
--;
SHOW search_path
--;
SHOW server_version
--;
SHOW transaction_read_only
--;
SHOW TRANSACTION ISOLATION LEVEL
--;
SHOW TimeZone
--;
show all
--;
SELECT current_schema(),session_user
--;
SELECT version(); SELECT current_database()
--;
SELECT oid, typbasetype FROM pg_type WHERE typname = 'lo'
--;
BEGIN; SELECT 1; COMMIT
--;
START TRANSACTION READ ONLY; SELECT count(*) FROM customers; ROLLBACK
--;
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; COMMIT
--;
BEGIN; SET TRANSACTION READ ONLY; SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a; RELEASE SAVEPOINT a; END
--;
BEGIN; DECLARE c1 NO SCROLL CURSOR FOR SELECT * FROM customers ORDER BY id; FETCH FORWARD 5 FROM c1; MOVE 2 IN c1; FETCH ALL c1; CLOSE c1; COMMIT
--;
BEGIN; DECLARE "curs-1" SCROLL CURSOR WITHOUT HOLD FOR SELECT id FROM sales.books ORDER BY id; FETCH LAST "curs-1"; FETCH ABSOLUTE 2 "curs-1"; CLOSE ALL; ROLLBACK
--;
DEALLOCATE ALL
--;
CLOSE ALL
--;
UNLISTEN *
--;
PREPARE by_id (int) AS SELECT id, title FROM sales.books WHERE id = $1
--;
EXECUTE by_id(3)
--;
EXPLAIN (COSTS OFF) EXECUTE by_id(3)
--;
DEALLOCATE by_id
--;
-- ping
--;
;
--;
SELECT 1
--;
SET client_min_messages TO 'warning'
--;
SET standard_conforming_strings = on
--;
SET SESSION timezone TO 'UTC'
--;
SET intervalstyle = iso_8601
--;
SHOW TIME ZONE
--;
SHOW max_identifier_length
--;
show transaction isolation level
--;
show standard_conforming_strings
--;
SELECT pg_catalog.version()
--;
select current_schema(), current_database(), current_user, session_user, pg_backend_pid(), inet_server_addr()
--;
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4') OR t.typtype IN ('r', 'e', 'd') OR t.typinput = 'array_in(cstring,oid,integer)'::regprocedure OR t.typelem != 0
--;
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"customers"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
--;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'customers' AND n.nspname = ANY (current_schemas(false)) ORDER BY i.relname
--;
SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)
--;
select relname from pg_class where pg_catalog.has_table_privilege(oid, 'SELECT') limit 1
--;
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position
--;
SELECT tc.constraint_name, kcu.column_name, ccu.table_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu USING (constraint_name) JOIN information_schema.constraint_column_usage ccu USING (constraint_name)
--;
SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings() WHERE name = 'bytea_output'
--;
SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, has_database_privilege(db.oid, 'CREATE') as cancreate FROM pg_catalog.pg_database db WHERE db.datname = current_database()
--;
SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser FROM pg_catalog.pg_roles as roles WHERE rolname = current_user
--;
SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname
--;
SELECT conname, pg_get_constraintdef(oid, true), conrelid::regclass FROM pg_constraint WHERE contype IN ('f', 'p')
--;
select s.relname, s.n_live_tup, pg_size_pretty(pg_total_relation_size(s.relid)) from pg_stat_user_tables s
--;
select * from pg_settings where name like 'max_%'
--;
BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT count(*) FROM customers; COMMIT
--;
begin; savepoint a; rollback to a; release a; end
--;
begin; declare c cursor for select * from customers order by id; fetch 2 from c; move 1 in c; close c; rollback
--;
deallocate all
--;
set statement_timeout = '30s'
--;
reset statement_timeout
--;
RESET ALL
--;
DISCARD ALL
--;
SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL
