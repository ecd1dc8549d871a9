-- what analysts, agents and BI tools ask: windows, sets, JSON, text search, ranges, recursion, sampling, EXPLAIN, COPY
--;
select id, title, sum(price) over w, avg(price) over (partition by status order by id rows between 2 preceding and current row), ntile(4) over w, first_value(title) over w, nth_value(title, 2) over w, percent_rank() over w, cume_dist() over w from sales.books window w as (partition by status order by price desc, id) order by id
--;
select date_trunc('month', b.published)::date as month, count(*), count(*) filter (where b.active), round(avg(b.price), 2) from sales.books b group by 1 order by 1
--;
select percentile_cont(array[0.25, 0.5, 0.75, 0.95]) within group (order by ms) from sales.visits
--;
select path, count(*) as n, percentile_disc(0.95) within group (order by ms) as p95, mode() within group (order by ms) from sales.visits where at >= timestamptz '2024-11-05 00:00Z' and at < timestamptz '2024-11-10 00:00Z' group by path order by n desc, path
--;
select coalesce(dept, 'all') as dept, grouping(dept), sum(salary) from sales.employees group by cube (dept) order by 1, 2
--;
select dept, extract(year from lower(during)), sum(salary) from sales.employees group by grouping sets ((dept), (dept, 2), ()) order by 1 nulls last, 2 nulls last
--;
with recursive t as (select id, name, manager, array[id] as path, 0 as depth from sales.employees where manager is null union all select e.id, e.name, e.manager, t.path || e.id, t.depth + 1 from sales.employees e join t on e.manager = t.id) select lpad('', depth * 2) || name, path from t order by path
--;
with recursive t as (select id, manager from sales.employees where id = 1 union all select e.id, e.manager from sales.employees e, t where e.manager = t.id) search breadth first by id set ord cycle id set is_cycle using path select id, is_cycle from t order by ord
--;
with recursive fib (a, b) as (values (0::numeric, 1::numeric) union all select b, a + b from fib where b < 1e10) select array_agg(a order by a) from fib
--;
select b.title, l.* from sales.books b cross join lateral (select o.id, o.total from orders o join sales.lines l on l.order_id = o.id where l.book_id = b.id order by o.total desc limit 2) l where b.id < 5 order by 1, 2
--;
select d.day::date, count(v.id) from generate_series(timestamptz '2024-11-01 00:00Z', timestamptz '2024-11-10 00:00Z', interval '1 day') d (day) left join sales.visits v on v.at >= d.day and v.at < d.day + interval '1 day' group by 1 order by 1
--;
select id, details ->> 'lang' as lang, (details -> 'pages')::int as pages, details #>> '{lang}', details @> '{"lang":"en"}', details ? 'pages', jsonb_typeof(details) from sales.books where details ->> 'lang' = 'de' order by id limit 5
--;
select key, count(*) from sales.books, jsonb_each(details) group by key order by key
--;
select jsonb_object_agg(id, title order by id), jsonb_agg(jsonb_build_object('t', title, 'p', price) order by id) from sales.books where id < 4
--;
select jsonb_path_query_array(details, '$.pages ? (@ > 120)'), details @? '$.lang', details @@ '$.pages > 110' from sales.books order by id limit 3
--;
select unnest(tags) as tag, count(*) from sales.books group by 1 order by 2 desc, 1
--;
select id, tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), 'all' = any (tags), tags @> array['t1'], tags && array['t2'], array_position(tags, 'all'), array_to_string(tags, ','), tags || 'x'::text from sales.books order by id limit 4
--;
select id, ts_rank(search, q) as rank, ts_headline('english', title, q) from sales.books, websearch_to_tsquery('english', 'book or "other thing" -nothing') q where search @@ q order by rank desc, id limit 3
--;
select name, during, lower(during), upper_inf(during), during @> date '2020-06-01', during * daterange('2020-03-01', '2020-06-01'), during -|- daterange('2021-01-05', null) from sales.employees order by id
--;
select range_agg(during), range_intersect_agg(during) from sales.employees
--;
select * from sales.books tablesample bernoulli (100) repeatable (3) order by id limit 2
--;
select string_agg(distinct status::text, ', ' order by status::text), bool_and(active), every(price > 0), bit_or(id), stddev(price), corr(price, weight), regr_slope(price, weight), variance(price) from sales.books
--;
select distinct on (status) status, id, title from sales.books order by status, price desc, id
--;
select id, case status when 'new' then 1 when 'paid' then 2 else 3 end, case when price > 12 then 'high' when price is null then 'none' else 'low' end, nullif(price, 10), coalesce(contact, 'x')::text, greatest(price, 12), least(weight, 3.0) from sales.books order by id limit 3
--;
select (ships_to).city, row(id, title), (b).title, b from sales.books b order by id limit 2
--;
select title from sales.books where title ilike '%OOK 1%' and title ~ '[0-9]+$' and title !~~ 'x%' and title similar to 'Book%' and length(title) between 4 and 9 order by title collate "C" desc
--;
select regexp_replace(title, '(\d+)', '<\1>', 'g'), split_part(contact, '@', 2), substring(title from '\d+'), position('o' in title), overlay(title placing 'XX' from 1 for 2), trim(both 'B' from title), initcap(title), format('%s-%L-%I', id, title, title), translate(title, 'o', '0'), md5(title), encode(sha256(title::bytea), 'hex') from sales.books order by id limit 2
--;
select age(date '2024-03-01', date '2024-01-31'), date '2024-01-31' + interval '1 month', extract(isodow from date '2024-01-31'), to_char(timestamp '2024-01-31 13:05', 'YYYY-MM-DD HH24:MI TZ'), make_interval(days => 3), justify_hours(interval '30 hours'), date_bin('15 min', timestamp '2024-01-31 13:05', timestamp '2024-01-01'), timestamptz '2024-01-31 13:05Z' at time zone 'Europe/Berlin'
--;
select sales.price_with_tax(price), sales.product(price) over (order by id) from sales.books order by id limit 2
--;
select * from sales.cheapest(2)
--;
select id, title from sales.cheapest(n => 4) where price > 1 order by id
--;
select title operator(sales.~=) 'Book 1' from sales.books order by id limit 1
--;
select c.name, count(o.id), sum(o.total), max(o.at) is null from customers c left join orders o on o.customer = c.id group by c.id order by 3 desc nulls last, 1 limit 10
--;
select name from customers c where exists (select from orders o where o.customer = c.id and o.total > 250) and not exists (select 1 from orders where customer = c.id and total < 3) order by 1
--;
select count(*) from orders natural join sales.lines
--;
select o.id from orders o join sales.lines l on l.order_id = o.id join sales.books b on (b.id = l.book_id) full join customers c on c.id = o.customer where b.price > all (select price from sales.cheap) group by o.id having count(*) > 1 order by 1 limit 3
--;
(select id from sales.books order by price limit 3) union all (select id from orders order by total desc limit 2) except select 1 order by 1
--;
select * from (values (1, 'one'), (2, 'two')) v (n, word) join lateral generate_series(1, v.n) g on true
--;
select * from rows from (generate_series(1, 3), unnest(array['a', 'b'])) with ordinality as t (n, s, i)
--;
select * from sales.tree order by id
--;
select * from sales.totals t join customers c on c.id = t.customer order by t.total desc, c.id limit 3
--;
select * from sales.secrets
--;
select "Odd Column", "select" from "Odd Schema"."Odd ""Table"
--;
select tableoid::regclass, count(*) from sales.visits group by 1 order by 1
--;
select ctid, xmin is null from only sales.books where id = 1
--;
select current_date - published from sales.books where published > current_date - 100000 and id < 0
--;
select 0.1 + 0.2, 7 / 2, 7 % 2, 2 ^ 10, |/ 16, @ -5, 5 # 3, ~ 5, 1 << 4, 10::float8 / 3, 'a' || 1, div(7, 2), trunc(1.55, 1), width_bucket(5, 0, 10, 4), random() < 2
--;
select xmlelement(name book, xmlattributes(id as id), xmlforest(title, price)), xpath('/a/text()', '<a>1</a>'::xml), xmlagg(xmlelement(name x, id)) from sales.books where id = 1 group by id, title, price
--;
select json_object('id': id, 'title': title absent on null), json_array(id, title), json_objectagg(title: price), json_arrayagg(price order by id), json_exists(details, '$.lang'), json_value(details, '$.lang'), json_query(details, '$') from sales.books where id = 1 group by id, title, details
--;
select jt.* from sales.books, json_table(details, '$' columns (lang text path '$.lang', pages int path '$.pages' default 0 on empty)) jt where id < 3 order by pages
--;
select x.* from xmltable('/b/i' passing ('<b><i n="1">a</i></b>'::xml) columns ord for ordinality, n int path '@n', v text path '.') x
--;
select h -> 'a', h ? 'a', hstore_to_json(h) from (select 'a=>1,b=>2'::hstore as h) q
--;
select title, similarity(title, 'book'), title % 'book 1', title <-> 'book' from sales.books order by title <-> 'Book 7', title limit 3
--;
select host(inet '10.1.2.3/8'), network(inet '10.1.2.3/8'), inet '10.1.2.3' <<= inet '10.0.0.0/8', macaddr '08:00:2b:01:02:03', point(1, 2) <-> point(4, 6), circle '((0,0),2)' @> point '(1,1)', box '(1,1),(0,0)' && box '(2,2),(0.5,0.5)'
--;
select count(*) from sales.books where (price, id) > (12, 3) and row(price, id) is not null and id in (select book_id from sales.lines) and price = any (array(select price from sales.cheap)) or id = some (values (1), (2))
--;
select id, lag(price, 1, 0.0) over (order by id) as before, price - lag(price) over (order by id) as change, lead(title) over (order by id), sum(price) over (order by published range between interval '7 days' preceding and current row), count(*) over (order by price groups between 1 preceding and 1 following exclude ties), last_value(price) over (order by id rows between unbounded preceding and unbounded following) from sales.books order by id limit 10
--;
select * from sales.books order by price desc nulls last, id offset 2 fetch next 3 rows with ties
--;
explain select * from sales.books where lower(title) = 'book 1'
--;
explain (costs off, verbose, format json) select * from orders o join customers c on c.id = o.customer where o.total > 100
--;
explain (analyze, costs off, timing off, summary off, buffers off) select count(*) from sales.visits where at < timestamptz '2024-11-02 00:00Z'
--;
explain (analyze, buffers, verbose, settings, wal, memory, serialize) select * from sales.cheap
--;
explain (generic_plan) select * from sales.books where id = $1
--;
copy sales.books (id, title, price) to stdout
--;
copy (select id, title from sales.books order by id) to stdout with (format csv, header, delimiter ';', quote '"', force_quote *)
--;
copy sales.lines to stdout (format binary)
--;
table sales.cheap order by id limit 2
--;
values (1, 'a'), (2, 'b') order by 1 desc
--;
select
--;
select 'x' "a b", 'y' as "C""D", $tag$it's$tag$, E'tab\t', U&'\00e9', B'101', X'1F', 1_000, 0xff, 0b11, 1e-3
--;
select /* a hint */ 1 -- and a comment
--;
select count(*) from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'sales' and c.relkind = any (array['r', 'p'])
--;
select table_schema, table_name, column_name, data_type from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2, ordinal_position
--;
select rc.constraint_name, kcu.column_name, rc.update_rule, rc.delete_rule from information_schema.referential_constraints rc join information_schema.key_column_usage kcu using (constraint_schema, constraint_name) order by 1, 2
--;
select relname, reltuples::bigint, pg_size_pretty(pg_total_relation_size(oid)) from pg_class where relnamespace = 'sales'::regnamespace and relkind = 'r' order by pg_total_relation_size(oid) desc
--;
select schemaname, relname, seq_scan, idx_scan, n_live_tup, n_dead_tup, last_autovacuum from pg_stat_user_tables order by seq_scan desc limit 20
--;
select indexrelname, idx_scan, pg_size_pretty(pg_relation_size(indexrelid)) from pg_stat_user_indexes where idx_scan = 0
--;
select relname, heap_blks_hit, heap_blks_read from pg_statio_user_tables order by 1
--;
select datname, pg_size_pretty(pg_database_size(datname)), datcollate, age(datfrozenxid) from pg_database where datname = current_database()
--;
select extname, extversion from pg_extension order by 1
--;
select name, setting, unit, context, source from pg_settings where name in ('work_mem', 'shared_buffers', 'max_connections')
--;
select current_setting('server_version_num')::int >= 130000, current_setting('TimeZone'), current_setting('no.such', true), version() like 'PostgreSQL%', pg_is_in_recovery(), current_schemas(true), current_catalog, has_table_privilege('sales.books', 'select')
--;
with cohort as (select customer, date_trunc('month', min(at)) as first from orders group by 1), active as (select distinct o.customer, date_trunc('month', o.at) as month from orders o) select c.first is null, (extract(month from age(a.month, c.first)))::int as n, count(distinct a.customer) from cohort c join active a using (customer) group by 1, 2 order by 1, 2
--;
select sum(case when rank = 1 then total end) / nullif(sum(total), 0) as share from (select total, rank() over (order by total desc) from orders) q
--;
with a as materialized (select * from orders where total > 100), b as not materialized (select customer, sum(total) s from a group by 1) select count(*), max(s) from b
--;
SELECT "source"."status" AS "status", COUNT(*) AS "count" FROM (SELECT "sales"."books"."id" AS "id", "sales"."books"."status" AS "status" FROM "sales"."books" WHERE ("sales"."books"."price" >= 10 AND ("sales"."books"."title" IS NULL OR NOT (LOWER("sales"."books"."title") LIKE '%zzz%'))) LIMIT 1048575) AS "source" GROUP BY "source"."status" ORDER BY "source"."status" ASC
--;
SELECT CAST("sales"."visits"."at" AS date) AS "at", DATE_TRUNC('week', "sales"."visits"."at") AS "week", CEIL((CAST(extract(doy from CAST(date_trunc('week', "sales"."visits"."at") AS timestamp)) AS integer) / 7.0)) AS "n", SUM("sales"."visits"."ms") FROM "sales"."visits" GROUP BY 1, 2, 3 ORDER BY 1 ASC
--;
SELECT floor(extract(epoch from "at")/3600)*3600 AS "time", path AS metric, avg(ms) AS "value" FROM sales.visits WHERE "at" BETWEEN '2024-11-01T00:00:00Z' AND '2024-11-03T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2
--;
SELECT time_bucket.t, coalesce(count(v.*), 0) FROM (SELECT generate_series('2024-11-01'::timestamptz, '2024-11-02'::timestamptz, '6h'::interval) AS t) time_bucket LEFT JOIN sales.visits v ON v.at >= time_bucket.t AND v.at < time_bucket.t + '6h'::interval GROUP BY 1 ORDER BY 1
--;
SELECT "Custom SQL Query"."status" AS "status", SUM("Custom SQL Query"."price") AS "sum:price:ok" FROM (select * from sales.books) "Custom SQL Query" GROUP BY 1 HAVING (COUNT(1) > 0) ORDER BY 1
--;
SELECT TO_CHAR(DATE_TRUNC('month', published), 'YYYY-MM') AS __timestamp, SUM(price) AS "SUM(price)" FROM sales.books WHERE published >= TO_TIMESTAMP('2019-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('month', published) ORDER BY "SUM(price)" DESC LIMIT 50000
--;
SELECT b1_0.id,b1_0.title,l1_0.book_id,l1_0.order_id,l1_0.qty FROM sales.books b1_0 left join sales.lines l1_0 on b1_0.id=l1_0.book_id WHERE b1_0.id=1 order by l1_0.order_id
--;
select b1_0.id,b1_0.title from sales.books b1_0 where upper(b1_0.title) like upper('b%') escape '' order by b1_0.id offset 0 rows fetch first 10 rows only
--;
SELECT "t0"."id", "t0"."title", "t1"."__prisma_data__" AS "lines" FROM "sales"."books" AS "t0" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('qty', "t2"."qty") AS "__prisma_data__" FROM (SELECT "t2".* FROM "sales"."lines" AS "t2" WHERE "t0"."id" = "t2"."book_id") AS "t2") AS "t3") AS "t4") AS "t1" ON TRUE WHERE "t0"."id" < 4 ORDER BY 1
--;
SELECT "books".* FROM "sales"."books" WHERE "books"."status" = 'new' AND ("books"."price" BETWEEN 1 AND 20) ORDER BY "books"."id" ASC LIMIT 1
--;
SELECT 1 AS one FROM "sales"."books" WHERE "books"."id" = 1 LIMIT 1
--;
SELECT COUNT(*) FROM (SELECT DISTINCT "books"."id" FROM "sales"."books") subquery_for_count
--;
select query_start is null from (select null::timestamptz as query_start) q
--;
select * from information_schema.sql_features where feature_id = 'B012'
--;
select pg_get_viewdef('sales.cheap'::regclass, true), pg_get_indexdef('sales.books_title'::regclass), pg_get_functiondef('sales.stamp'::regproc), pg_get_triggerdef(oid), pg_get_constraintdef(c.oid) from pg_trigger t, lateral (select oid from pg_constraint where conrelid = 'sales.books'::regclass order by conname limit 1) c where tgname = 'stamped'
--;
select percentile_cont(0.5) within group (order by total), mode() within group (order by customer) from orders
--;
select customer, sum(total) over w, rank() over (partition by customer order by total desc), lag(total, 1, 0) over w from orders window w as (partition by customer order by id rows between 2 preceding and current row exclude ties)
--;
with a as (with b as (select * from orders) select * from b) select count(*) filter (where total > 10) from a
--;
with recursive t(n) as (select 1 union all select n + 1 from t where n < 10) search depth first by n set o select sum(n) from t
--;
select customer, date_trunc('month', at), sum(total) from orders group by grouping sets ((customer), (date_trunc('month', at)), ()) having sum(total) > 0
--;
select customer, grouping(customer), count(distinct id) from orders group by rollup (customer) order by 1 nulls last limit 5 offset 1
--;
select c.*, o.* from customers c left join lateral (select * from orders o where o.customer = c.id order by total desc fetch first 2 rows with ties) o on true where c.email ilike 'c1%' or c.name similar to 'x%'
--;
select name, name ~ '^c', name collate "C", (select array_agg(id order by id) from orders where customer = c.id)[1:2] from customers c
--;
select * from generate_series(now() - interval '3 days', now(), '1 day') with ordinality as g(day, n)
--;
select jsonb_path_query('[1,2]', '$[*]'), json_build_object('a', 1) ->> 'a', to_jsonb(c) - 'email' from customers c limit 1
--;
select x.* from jsonb_to_recordset('[{"a":1}]') as x(a int), json_each_text('{"k":"v"}') e
--;
select * from xmltable('/r/i' passing ('<r><i>1</i></r>'::xml) columns v int path '.')
--;
select * from json_table('[1,2]', '$[*]' columns (n for ordinality, v int path '$')) jt
--;
select case when total > 5 then 1 else coalesce(nullif(total, 0), 1) end, greatest(1, 2), total::text, cast(total as int), at at time zone 'utc', extract(epoch from at) from orders limit 1
--;
select distinct on (customer) * from orders tablesample bernoulli (50) repeatable (1) order by customer, id
--;
select to_tsvector('english', name) @@ plainto_tsquery('customer'), ts_headline(name, 'customer'::tsquery), md5(name), sha256(name::bytea), regexp_replace(name, 'c', 'd', 'g'), format('%s', name) from customers limit 1
--;
select row(1, 2) = row(1, 2), (1, 2) in (values (1, 2)), 1 between 0 and 2, array[1] && array[2], 5 = any (array[1, 5])
--;
values (1, 'a'), (2, 'b')
--;
table customers limit 1
--;
select * from busy
--;
select count(*) from (select 1 union all select 2 intersect select 3) q
--;
explain select * from customers where id = 1
--;
explain (analyze, buffers, format json) select count(*) from orders
--;
copy (select * from customers) to stdout with (format csv, header)
