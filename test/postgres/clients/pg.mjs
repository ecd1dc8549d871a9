// node-postgres, as it stands in the project.
import { readFileSync } from 'node:fs'
import pg from 'pg'

const { env } = process
const ssl =
  env.PGSSLMODE === 'disable'
    ? false
    : { ca: readFileSync(env.PGSSLROOTCERT), cert: readFileSync(env.PGSSLCERT), key: readFileSync(env.PGSSLKEY), servername: 'localhost' }
const client = new pg.Client({
  host: env.PGHOST,
  port: Number(env.PGPORT),
  user: env.PGUSER,
  database: env.PGDATABASE,
  password: env.PGPASSWORD,
  ssl,
})
await client.connect()
const said = {}
said.read = (await client.query('SELECT count(*)::int AS n FROM customers')).rows[0].n
said.refused = await client.query('DROP TABLE customers').then(
  () => 'not refused',
  (error) => `${error.code} ${error.message}`,
)
said.prepared = (await client.query({ name: 'by-id', text: 'SELECT name FROM customers WHERE id = $1', values: [2] })).rows[0].name
await client.query('BEGIN')
await client.query('INSERT INTO orders (customer, total) VALUES ($1, $2)', [1, 5])
said.inside = (await client.query('SELECT count(*)::int AS n FROM orders')).rows[0].n
await client.query('ROLLBACK')
said.after = (await client.query('SELECT count(*)::int AS n FROM orders')).rows[0].n
await client.end()
console.log(JSON.stringify(said))
