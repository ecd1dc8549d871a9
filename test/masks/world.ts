import type { Mask, MaskForm } from '../../src/gateways/postgres/masks/types.ts'

/** Two databases that differ in nothing but what their hidden columns hold. */

export const MASK: Mask = {
  'public.customers.email': 'fixed',
  'public.customers.code': 'null',
  'public.customers.born': 'null',
  'public.customers.score': 'fixed',
  'public.people.email': 'null',
  'public.log_1.what': 'null',
  'public.pets.tag': 'fixed',
  'public.payments.payer': 'null',
}

/** The same columns in the forms that show something: there only the places where it is shown may differ. */
export const masksOf = (form: MaskForm): Mask => Object.fromEntries(Object.keys(MASK).map((key) => [key, form]))

/** Made once; both databases are copies of it, so that oids are the same too. */
export const SCHEMA = `
  create table customers (id int primary key, name text not null, email text not null, note varchar(40), code char(8), born date, score int,
    loud text generated always as (upper(email)) stored, constraint named check (name <> ''), constraint unlike check (note <> email));
  create table orders (id int primary key, customer int references customers, total numeric not null, place text);
  create table people (id int primary key, email text unique, name text);
  create table payments (id int primary key, payer int references orders, amount int);
  create table log (id int, at int, what text) partition by range (id);
  create table log_1 partition of log for values from (0) to (10);
  create table log_2 partition of log for values from (10) to (100);
  create table pets (id int, tag text not null);
  create table dogs (breed text) inherits (pets);
  insert into customers select i, 'name ' || i % 7, 'nobody', 'note ' || i % 3, 'code', '2000-01-01', 0 from generate_series(1, 24) i;
  insert into orders select i, 1 + i % 24, i * 1.5, 'place ' || i % 5 from generate_series(1, 40) i;
  insert into people select i, 'p' || i, 'name ' || i % 7 from generate_series(1, 12) i;
  insert into payments select i, i, i * 10 from generate_series(1, 12) i;
  insert into log select i, i * 2, 'what ' || i from generate_series(1, 30) i;
  insert into pets select i, 'tag' from generate_series(1, 5) i;
  insert into dogs select i, 'tag', 'breed ' || i from generate_series(6, 9) i;
  create index on customers (email); create index on customers (score); create index on orders (place);
  create index on customers (name, email); create index on customers (score, id); create index on people (email) where name = 'name 1';
  create index on payments (payer) include (id, amount); create index on log (at, what); create index on pets (tag) include (id);
  create statistics together (ndistinct, mcv) on name, email from customers;
  create view contacts as select id, name as who, email as address from customers;
  create view domains as select id, split_part(email, '@', 2) as domain from customers;
  create view locals as select id, name from customers where email like '%1%';
  create view ranked as select id, rank() over (order by score) as place from customers;
  create view totals as select customer, sum(total) as total from orders group by customer;
  create view everybody as select id, email from customers union all select id, email from people;
  create view nested as select c.address, o.place from contacts c join orders o on o.customer = c.id;
  create materialized view kept as select id, name, email from customers;
  create function twist(t text) returns text language sql immutable as $$ select reverse(t) $$;
  create function spy() returns text language sql stable as $$ select max(email) from customers $$;
  create function tell(o orders) returns text language sql stable as $$ select email from customers where id = o.customer $$;
  create table watched (id int, email text);
  alter table customers set (autovacuum_enabled = off); alter table orders set (autovacuum_enabled = off);
`

/**
 * What lies in the hidden columns: other values in another order, of the same lengths. How much room a row takes is not
 * hidden: which page it lies on, and what the planner thinks of a table of that size.
 */
export const fill = (which: 0 | 1): string => `
  update customers set
    email = rpad(${which ? "'x' || (37 * id % 24) || '@b.example'" : "'customer' || id || '@a.example.org'"}, 25, '.'),
    code = ${which ? "'d' || 99 - id" : "'c' || id"},
    born = date '1970-01-01' + ${which ? '11 * id' : '(700 - 3 * id)'},
    score = ${which ? '7 * id % 5' : 'id'};
  update people set email = rpad(${which ? "'z' || (100 - id)" : "case when id % 2 = 0 then 'customer' || id || '@a.example.org' else 'person ' || id end"}, 25, '.');
  update payments set payer = ${which ? '41 - id' : 'id'};
  update log_1 set what = rpad(${which ? "'y'" : "'zz' || id"}, 5);
  update only pets set tag = rpad(${which ? "'q' || id" : "'tag ' || 9 - id"}, 6);
  update dogs set tag = rpad(${which ? "'r'" : "'dog' || id"}, 6);
  refresh materialized view kept;
  vacuum analyze;
`

/** Columns by relation, hidden ones among them. */
export const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  customers: ['id', 'name', 'email', 'note', 'code', 'born', 'score', 'loud'],
  orders: ['id', 'customer', 'total', 'place'],
  people: ['id', 'email', 'name'],
  payments: ['id', 'payer', 'amount'],
  log: ['id', 'at', 'what'],
  log_1: ['id', 'at', 'what'],
  log_2: ['id', 'at', 'what'],
  pets: ['id', 'tag'],
  dogs: ['id', 'tag', 'breed'],
  contacts: ['id', 'who', 'address'],
  domains: ['id', 'domain'],
  locals: ['id', 'name'],
  ranked: ['id', 'place'],
  totals: ['customer', 'total'],
  everybody: ['id', 'email'],
  nested: ['address', 'place'],
  kept: ['id', 'name', 'email'],
}

/** Whatever the planner thinks, it reads through an index where it may. */
export const PREFERS_INDEXES = 'alter role writer set seq_page_cost = 1000; alter role writer set random_page_cost = 0.001'

/** Values of other lengths on top of it, in the second database: then plans may differ, and with them the order of what nobody sorted. */
export const LENGTHEN = `
  update customers set email = email || repeat('x', 7 * id), code = left(code, 2);
  update people set email = email || repeat('y', 60 - id);
  update log_1 set what = repeat(what, 9);
  update only pets set tag = ''; update dogs set tag = repeat(tag, 20);
  refresh materialized view kept;
  vacuum full analyze;
`
