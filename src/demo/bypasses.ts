/**
 * Ways past a "read-only" database tool that worked against real products. The table `customers` must be the same after
 * all of them. Numbers of incidents and bypasses are from public reports.
 */
export interface Bypass {
  readonly name: string
  readonly sql: string
}

export const BYPASSES: readonly Bypass[] = [
  { name: 'end the read-only transaction first', sql: 'COMMIT; DROP TABLE customers; COMMIT' },
  { name: 'roll it back instead', sql: "ROLLBACK; UPDATE customers SET card = '0'" },
  { name: 'hide the second statement behind a read', sql: 'SELECT 1; DROP TABLE customers' },
  { name: 'hide it behind nested comments', sql: 'SELECT 1 /* /* */ ; */; DELETE FROM customers --' },
  { name: 'write inside a CTE', sql: 'WITH gone AS (DELETE FROM customers RETURNING *) SELECT count(*) FROM gone' },
  { name: 'let EXPLAIN run it', sql: 'EXPLAIN ANALYZE DELETE FROM customers' },
  { name: 'copy into a new table', sql: 'SELECT * INTO stolen FROM customers' },
  { name: 'an anonymous block', sql: "DO $$ BEGIN EXECUTE 'DROP TABLE customers'; END $$" },
  { name: 'prepare now, execute later', sql: 'PREPARE p AS DELETE FROM customers; EXECUTE p' },
  { name: 'run a program on the server', sql: "COPY (SELECT 1) TO PROGRAM 'touch /tmp/owned'" },
  { name: 'SQL inside a function argument', sql: "SELECT query_to_xml('DELETE FROM customers RETURNING 1', true, true, '')" },
  { name: 'switch the fence off', sql: "SELECT set_config('default_transaction_read_only', 'off', false); DELETE FROM customers" },
  { name: 'make reads and parser disagree', sql: "SET standard_conforming_strings = off; SELECT '\\', '; DELETE FROM customers --'" },
  { name: 'become somebody else', sql: 'SET ROLE postgres; DROP TABLE customers' },
  { name: 'stop the others', sql: 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity' },
  { name: 'lock the table', sql: 'LOCK TABLE customers IN ACCESS EXCLUSIVE MODE' },
]
