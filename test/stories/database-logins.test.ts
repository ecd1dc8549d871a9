import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { DatabaseChecked } from '../../src/api/databases-contract.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { apply, connect, door, governed, governedDatabase, invited, renewed } from '../parts/governed.ts'

const PASSWORD = 'correct-horse-battery-staple-9174'
const ROLE = (resource: string) => `---
kind: role
name: analyst
spec: { allow: [{ postgres: ${resource}, databases: [postgres], as: analyst_ro, can: read }] }
---
kind: user
name: boris
spec: { roles: [analyst] }
`

test('rule 5: a sealed password lets people in who never see it, and stands nowhere: no record, no file, no error', async (t) => {
  const { server, dana, dir } = await governed(t)
  const port = await freePort()
  await dana.api.call('PUT', '/v1/secrets/shop-ro', { value: PASSWORD })
  const document = `kind: postgres
name: shop
spec: { address: "localhost:${port}", databases: [postgres], auth: { password: { analyst_ro: { secret: shop-ro } } } }
`
  await apply(dana, document + ROLE('shop'))
  const id = server.parts.resources.find('postgres', 'shop')!.resource.id
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { certificate } = await server.parts.ca.issueDatabaseServer({
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    resourceId: id,
    names: ['localhost'],
    notAfter: Date.now() + 3_600_000,
  })
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  const postgres = await startPostgres({
    dir: join(dir, 'postgres'),
    port,
    tls: { cert: certificate, key, clientCa: certificate },
    hba: 'hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all postgres 127.0.0.1/32 scram-sha-256\nhostnossl all all all reject\n',
  })
  t.after(() => postgres.stop())
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(
    `CREATE ROLE analyst_ro LOGIN PASSWORD '${PASSWORD}'; CREATE TABLE t (id int); GRANT SELECT ON t TO analyst_ro; REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC`,
  )

  const boris = await invited(t, dana, 'boris', dir)
  const opened = await door(t, await renewed(t, boris, 'psql'), 'shop', 'postgres')
  const client = await connect(t, opened, 'analyst_ro', 'postgres')
  assert.deepEqual((await client.query('SELECT count(*)::int AS n FROM t')).rows, [{ n: 0 }])
  // Said by a client in a statement, it is masked like every secret of the vault.
  await client.query(`SELECT '${PASSWORD}' AS it`)
  await client.end()

  const { parts } = await dana.api.call<DatabaseChecked>('POST', '/v1/databases/shop/check', { read: [], write: [] })
  assert.deepEqual(
    parts.flatMap(({ findings }) => findings.filter(({ level }) => level === 'missing')),
    [],
  )

  await admin.query("ALTER ROLE analyst_ro PASSWORD 'something-else'")
  await assert.rejects(connect(t, opened, 'analyst_ro', 'postgres'), (error: Error) => {
    assert.match(error.message, /password authentication failed/)
    return !error.message.includes(PASSWORD)
  })
  await assert.rejects(connect(t, opened, 'postgres', 'postgres'), /no_rule|does not exist|No role/)
  await admin.end()
  await server.stop()
  for (const name of await readdir(join(dir, 'data'), { recursive: true })) {
    const bytes = await readFile(join(dir, 'data', name)).catch(() => Buffer.alloc(0))
    assert.ok(!bytes.includes(PASSWORD), `it stands in ${name}`)
  }
})

test('the row policy of the guide, word by word, shows everybody his own rows', async (t) => {
  const { server, dana, dir } = await governed(t)
  const port = await freePort()
  await apply(dana, `kind: postgres\nname: shop\nspec: { address: "localhost:${port}", databases: [postgres] }\n${ROLE('shop')}`)
  const postgres = await governedDatabase(t, server, 'shop', { port, dir, user: 'analyst_ro' })
  const guide = await readFile(fileURLToPath(new URL('../../docs/postgres.md', import.meta.url)), 'utf8')
  const sql = /^```sql\n([\s\S]*?)^```$/m.exec(guide.slice(guide.indexOf('## Rows by identity')))?.[1]
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(sql!)
  await admin.end()
  const boris = await invited(t, dana, 'boris', dir)
  const opened = await door(t, await renewed(t, boris, 'psql'), 'shop', 'postgres')
  const client = await connect(t, opened, 'analyst_ro', 'postgres')
  assert.deepEqual(
    (await client.query('SELECT * FROM tickets')).rows.map(({ owner }) => owner),
    ['boris'],
  )
  await assert.rejects(client.query("SET chaperone.chain = 'dana'"), /Chaperone refused/)
  const { rows } = await client.query("SELECT current_setting('chaperone.chain') AS chain, current_setting('chaperone.name') AS name")
  assert.deepEqual(rows, [{ chain: 'boris>boris/psql', name: 'boris/psql' }])
})
