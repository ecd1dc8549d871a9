import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { env } = process
const postgres = createRequire(env.PACKAGES)('postgres')
const ssl =
  env.PGSSLMODE === 'disable'
    ? false
    : { ca: readFileSync(env.PGSSLROOTCERT), cert: readFileSync(env.PGSSLCERT), key: readFileSync(env.PGSSLKEY), servername: 'localhost' }
const address = env.PGHOST.startsWith('/') ? { path: `${env.PGHOST}/.s.PGSQL.${env.PGPORT}` } : { host: env.PGHOST, port: Number(env.PGPORT) }
const sql = postgres({ ...address, user: env.PGUSER, database: env.PGDATABASE, password: env.PGPASSWORD, ssl, max: 1 })
const said = {}
said.read = (await sql`SELECT count(*)::int AS n FROM customers`)[0].n
said.refused = await sql`DROP TABLE customers`.then(
  () => 'not refused',
  (error) => `${error.code} ${error.message}`,
)
said.prepared = (await sql`SELECT name FROM customers WHERE id = ${2}`)[0].name
await sql
  .begin(async (inside) => {
    await inside`INSERT INTO orders (customer, total) VALUES (${1}, ${5})`
    said.inside = (await inside`SELECT count(*)::int AS n FROM orders`)[0].n
    throw new Error('enough')
  })
  .catch((error) => {
    if (error.message !== 'enough') throw error
  })
said.after = (await sql`SELECT count(*)::int AS n FROM orders`)[0].n
await sql.end()
console.log(JSON.stringify(said))
