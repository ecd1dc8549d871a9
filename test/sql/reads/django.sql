-- Django: inspectdb, introspection, queries of the ORM
--;
SELECT set_config('TimeZone', 'UTC', false)
--;
SELECT
                c.relname,
                CASE
                    WHEN c.relispartition THEN 'p'
                    WHEN c.relkind IN ('m', 'v') THEN 'v'
                    ELSE 't'
                END,
                obj_description(c.oid, 'pg_class')
            FROM pg_catalog.pg_class c
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid)
--;
SELECT a1.attname, c2.relname, a2.attname
            FROM pg_constraint con
            LEFT JOIN pg_class c1 ON con.conrelid = c1.oid
            LEFT JOIN pg_class c2 ON con.confrelid = c2.oid
            LEFT JOIN
                pg_attribute a1 ON c1.oid = a1.attrelid AND a1.attnum = con.conkey[1]
            LEFT JOIN
                pg_attribute a2 ON c2.oid = a2.attrelid AND a2.attnum = con.confkey[1]
            WHERE
                c1.relname = 'books' AND
                con.contype = 'f' AND
                c1.relnamespace = c2.relnamespace AND
                pg_catalog.pg_table_is_visible(c1.oid)
--;
SELECT
                c.conname,
                array(
                    SELECT attname
                    FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx)
                    JOIN pg_attribute AS ca ON cols.colid = ca.attnum
                    WHERE ca.attrelid = c.conrelid
                    ORDER BY cols.arridx
                ),
                c.contype,
                (SELECT fkc.relname || '.' || fka.attname
                FROM pg_attribute AS fka
                JOIN pg_class AS fkc ON fka.attrelid = fkc.oid
                WHERE fka.attrelid = c.confrelid AND fka.attnum = c.confkey[1]),
                cl.reloptions
            FROM pg_constraint AS c
            JOIN pg_class AS cl ON c.conrelid = cl.oid
            WHERE cl.relname = 'books' AND pg_catalog.pg_table_is_visible(cl.oid)
--;
SELECT
                indexname,
                array_agg(attname ORDER BY arridx),
                indisunique,
                indisprimary,
                array_agg(ordering ORDER BY arridx),
                amname,
                exprdef,
                s2.attoptions
            FROM (
                SELECT
                    c2.relname as indexname, idx.*, attr.attname, am.amname,
                    CASE
                        WHEN idx.indexprs IS NOT NULL THEN
                            pg_get_indexdef(idx.indexrelid)
                    END AS exprdef,
                    CASE am.amname
                        WHEN 'btree' THEN
                            CASE (option & 1)
                                WHEN 1 THEN 'DESC' ELSE 'ASC'
                            END
                    END as ordering,
                    c2.reloptions as attoptions
                FROM (
                    SELECT *
                    FROM
                        pg_index i,
                        unnest(i.indkey, i.indoption)
                            WITH ORDINALITY koi(key, option, arridx)
                ) idx
                LEFT JOIN pg_class c ON idx.indrelid = c.oid
                LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid
                LEFT JOIN pg_am am ON c2.relam = am.oid
                LEFT JOIN
                    pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key
                WHERE c.relname = 'books' AND pg_catalog.pg_table_is_visible(c.oid)
            ) s2
            GROUP BY indexname, indisunique, indisprimary, amname, exprdef, attoptions
--;
SELECT
                a.attname AS column_name,
                NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable,
                pg_get_expr(ad.adbin, ad.adrelid) AS column_default,
                CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation,
                a.attidentity != '' AS is_autofield,
                col_description(a.attrelid, a.attnum) AS column_comment
            FROM pg_attribute a
            LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
            LEFT JOIN pg_collation co ON a.attcollation = co.oid
            JOIN pg_type t ON a.atttypid = t.oid
            JOIN pg_class c ON a.attrelid = c.oid
            JOIN pg_namespace n ON c.relnamespace = n.oid
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND c.relname = 'books'
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid)
--;
SELECT * FROM "books" LIMIT 1
--;
SELECT * FROM "busy" LIMIT 1
--;
SELECT * FROM "cheap" LIMIT 1
--;
SELECT * FROM "customers" LIMIT 1
--;
SELECT * FROM "employees" LIMIT 1
--;
SELECT * FROM "lines" LIMIT 1
--;
SELECT * FROM "orders" LIMIT 1
--;
SELECT * FROM "secrets" LIMIT 1
--;
SELECT * FROM "totals" LIMIT 1
--;
SELECT * FROM "touched" LIMIT 1
--;
SELECT * FROM "tree" LIMIT 1
--;
SELECT * FROM "visits" LIMIT 1
--;
SELECT * FROM "visits_2024" LIMIT 1
--;
SELECT * FROM "visits_rest" LIMIT 1
--;
SELECT
                s.relname AS sequence_name,
                a.attname AS colname
            FROM
                pg_class s
                JOIN pg_depend d ON d.objid = s.oid
                    AND d.classid = 'pg_class'::regclass
                    AND d.refclassid = 'pg_class'::regclass
                JOIN pg_attribute a ON d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum
                JOIN pg_class tbl ON tbl.oid = d.refobjid
                    AND tbl.relname = 'books'
                    AND pg_catalog.pg_table_is_visible(tbl.oid)
            WHERE
                s.relkind = 'S'
--;
SELECT 1
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE "books"."id" IN (1, 2)
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE (UPPER("books"."title"::text) LIKE UPPER('%book%') OR "books"."price" >= 12) ORDER BY "books"."published" DESC LIMIT 5
--;
SELECT "books"."status" AS "status", COUNT("books"."id") AS "n" FROM "books" GROUP BY 1 HAVING COUNT("books"."id") > 2
--;
SELECT DATE_TRUNC('month', "books"."published") AS "m", AVG("books"."price") AS "a", COUNT("books"."id") FILTER (WHERE "books"."active") AS "c" FROM "books" GROUP BY 1
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active", RANK() OVER (PARTITION BY "books"."status" ORDER BY "books"."price" DESC) AS "r" FROM "books"
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE EXISTS(SELECT 1 AS "a" FROM "lines" U0 WHERE (U0."book_id" = ("books"."id") AND U0."qty" = 2) LIMIT 1)
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE (("books"."details" -> 'lang') = '"en"'::jsonb AND ("books"."details" -> 'pages') > '120'::jsonb)
--;
SELECT "lines"."order_id", "lines"."book_id", "lines"."qty", "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "lines" INNER JOIN "books" ON ("lines"."book_id" = "books"."id") WHERE "books"."price" BETWEEN 10 AND 12
--;
SELECT DISTINCT ON ("books"."status") "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE NOT ("books"."title" IN ('a')) ORDER BY "books"."status" ASC
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE ("books"."published" BETWEEN '2020-01-01'::date AND '2020-12-31'::date AND "books"."title"::text ~ '^B')
--;
SELECT AVG("books"."price") AS "price__avg" FROM "books"
--;
SELECT COUNT(*) AS "__count" FROM "books"
--;
SELECT 1 AS "a" FROM "books" WHERE "books"."id" = 1 LIMIT 1
--;
EXPLAIN SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" WHERE "books"."id" = 1
--;
SAVEPOINT "s140445247961984_x1"
--;
SELECT "books"."id", "books"."title", "books"."price", "books"."published", "books"."status", "books"."details", "books"."active" FROM "books" ORDER BY "books"."id" ASC LIMIT 1
--;
RELEASE SAVEPOINT "s140445247961984_x1"
