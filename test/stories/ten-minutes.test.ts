import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { RequestRow } from '../../src/api/requests-contract.ts'
import { issuerOf, keepCredential } from '../../src/client/credential.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { apply, connect, door, governed, governedDatabase, invited } from '../parts/governed.ts'
import { chaperone } from '../parts/process.ts'

const guide = readFileSync(fileURLToPath(new URL('../../docs/write-access-for-ten-minutes.md', import.meta.url)), 'utf8')
const blocks = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, text = '']) => text.trim())
/** The words of a command line behind `chaperone`. */
const words = (line: string) =>
  [...line.replace(/ # .*/, '').matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain!).slice(1)

test('the guide "write access for ten minutes", word by word, on a real database', { timeout: 120_000 }, async (t) => {
  const { dir, server, dana } = await governed(t)
  const port = await freePort()
  await apply(
    dana,
    `kind: postgres
name: orders
spec: { address: "localhost:${port}", databases: [orders] }
---
kind: user
name: erik
spec: { roles: [approver] }
`,
  )
  const [roles] = blocks('yaml')
  await apply(dana, roles!)
  const postgres = await governedDatabase(t, server, 'orders', { port, dir, user: 'orders_app' })
  const run = async (url: string, ...statements: string[]) => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    for (const statement of statements) await client.query(statement)
    await client.end()
  }
  await run(postgres.superuserUrl, 'CREATE DATABASE orders')
  await run(
    postgres.superuserUrl.replace(/\/postgres$/, '/orders'),
    'CREATE TABLE orders (id int PRIMARY KEY, refunded boolean NOT NULL DEFAULT false); INSERT INTO orders VALUES (17)',
    'GRANT SELECT, UPDATE ON orders TO orders_app',
  )

  const erik = await invited(t, dana, 'erik', dir)
  const [signIn, ask, list, approve, record] = blocks('sh')
  const [token, joining] = signIn!.split('\n')
  const printed = await chaperone(words(token!), { env: { CHAPERONE_HOME: dana.home } })
  const botHome = join(dir, 'bot')
  const joined = await chaperone(words(joining!.replace(/'chaperone:[^']*'/, /'chaperone:[^']*'/.exec(printed.out)?.[0] ?? '')), {
    env: { CHAPERONE_HOME: botHome },
  })
  assert.equal(joined.code, 0, joined.err)
  const bot = await openProfiles(botHome).load()
  await openProfiles(erik.home).save(erik.profile, { use: true })
  const issuer = issuerOf(bot, { client: 'test' })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  t.after(() => keeper.close())
  const database = await connect(t, await door(t, keeper, 'orders', 'orders'), 'orders_app', 'orders')
  const refund = () => database.query('UPDATE orders SET refunded = true WHERE id = 17')
  assert.equal((await database.query('SELECT refunded FROM orders')).rows[0].refunded, false)
  await assert.rejects(refund(), { code: '42501' })

  const asked = chaperone(words(ask!), { env: { CHAPERONE_HOME: botHome } })
  // Whoever approves watches for it, or looks now and then.
  let found: RequestRow | undefined
  for await (const notice of erik.api.events<{ requests?: RequestRow[]; request?: RequestRow }>('/v1/requests/events')) {
    found = notice.request ?? notice.requests?.[0]
    if (found) break
  }
  const listed = await chaperone(words(list!), { env: { CHAPERONE_HOME: erik.home } })
  assert.match(listed.out, new RegExp(`${found!.id} +pending +role orders-writer for 10m +report-bot .*refund of order 17`))
  await assert.rejects(refund(), { code: '42501' })

  // What a person does at his terminal is in requests-by-cli; a script says what was looked at.
  const end = found!.id.slice(-6)
  const yes = words(approve!.replace('7k3m', end))
  const { code, out, err } = await chaperone([...yes, '--yes', '--seen', found!.seen], { env: { CHAPERONE_HOME: erik.home } })
  assert.equal(code, 0, err)
  assert.match(out, /is approved: report-bot has role orders-writer until/)
  const told = await asked
  assert.equal(told.code, 0, told.err)
  assert.match(told.out, /is approved: report-bot has role orders-writer until/)
  assert.equal((await refund()).rowCount, 1, 'in the connection that was open all the time')

  const explained = /`chaperone (explain [^`]*)`/.exec(guide)![1]!.replaceAll('\n', ' ')
  const why = await chaperone(words(`chaperone ${explained}`), { env: { CHAPERONE_HOME: dana.home } })
  assert.match(why.out, new RegExp(`^allow .*\\n(?:.*\\n)*grant +role orders-writer, given to report-bot until .*, request ${found!.id}`))
  const back = /`chaperone (requests withdraw 7k3m)`/.exec(guide)![1]!.replace('7k3m', end)
  assert.equal((await chaperone(words(`chaperone ${back}`), { env: { CHAPERONE_HOME: botHome } })).code, 0)
  await assert.rejects(refund(), { code: '42501' })
  assert.equal((await database.query('SELECT refunded FROM orders')).rows[0].refunded, true)

  for (const search of record!.replace(/req_\w+/, found!.id).split('\n')) {
    const { out, code } = await chaperone(words(search), { env: { CHAPERONE_HOME: dana.home } })
    assert.equal(code, 0, search)
    assert.match(out, /report-bot|erik/, search)
  }
  const ran = await chaperone(['audit', 'search', '--operation', 'update', '--verdict', 'allow', '--json'], { env: { CHAPERONE_HOME: dana.home } })
  const shown = await chaperone(['audit', 'show', /per_\w+/.exec(ran.out)![0]], { env: { CHAPERONE_HOME: dana.home } })
  assert.match(shown.out, new RegExp(`^grant +${found!.id}, a role for a while$`, 'm'))
})
