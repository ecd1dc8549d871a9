import assert from 'node:assert/strict'
import { createServer as createHttp } from 'node:http'
import { type AddressInfo, createServer as createTcp } from 'node:net'
import { type TestContext, test } from 'node:test'
import { fakeProxy } from '../../../test/fakes/proxy.ts'
import { startFixture } from '../../../test/mcp/fixture/fixture.ts'
import { folder } from '../../../test/parts/process.ts'
import { startPostgres } from '../../demo/postgres.ts'
import { heldPort } from '../../network/held-port.fixture.ts'
import { FORMS } from '../config/forms.ts'
import { secretsIn } from '../importing/secrets.ts'
import { asCommand, fileDoors, normal } from './file-doors.ts'
import { tryMcp } from './mcp-door.ts'
import { environmentDoors, pgpassDoors } from './password-doors.ts'
import { tryPostgres } from './postgres-door.ts'

const answering = async (t: TestContext, status: number, text: string) => {
  const server = createHttp((_, response) => void response.writeHead(status, { 'content-type': 'application/json' }).end(text))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`
}

test('an MCP server is a door when it answers whoever comes', async (t) => {
  const fixture = await startFixture()
  t.after(() => fixture.close())
  const open = await tryMcp('notes', fixture.url)
  assert.deepEqual([open.what, open.state], ['mcp/notes', 'open'])
  assert.match(open.fix!, /firewall/)
  assert.equal((await tryMcp('notes', await answering(t, 401, '{}'))).state, 'guarded')
  assert.equal((await tryMcp('notes', await answering(t, 400, '{"jsonrpc":"2.0","error":{}}'))).state, 'open')
  assert.equal((await tryMcp('notes', await answering(t, 404, 'nothing'))).state, 'unclear')
  const nobody = await heldPort()
  t.after(() => nobody.release())
  assert.equal((await tryMcp('notes', `http://127.0.0.1:${nobody.port}/mcp`)).state, 'closed')
})

test('what is reached through the proxy of this computer is a door as well; a proxy that does not lead there is none', async (t) => {
  const url = new URL(await answering(t, 200, '{"jsonrpc":"2.0","result":{}}'))
  const proxy = await fakeProxy()
  const shut = await fakeProxy({ login: 'boris:hunter2' })
  t.after(() => Promise.all([proxy.close(), shut.close()]))
  const far = `http://far.test:${url.port}/mcp`
  const open = await tryMcp('notes', far, { env: { HTTP_PROXY: `http://x:hunter2@127.0.0.1:${proxy.port}` } })
  assert.deepEqual([open.state, open.where], ['open', far])
  assert.match(open.says, /through the proxy http:\/\/127\.0\.0\.1/)
  assert.doesNotMatch(JSON.stringify(open), /hunter2/)
  assert.equal((await tryMcp('notes', far, { env: { HTTP_PROXY: `http://127.0.0.1:${shut.port}` } })).state, 'closed')
  assert.equal((await tryMcp('notes', far, { env: {} })).state, 'closed')
})

test('rule 5: what may be secret in an address is neither sent nor shown', async (t) => {
  const seen: string[] = []
  const server = createHttp(({ url, headers }, response) => {
    seen.push(`${url} ${headers.authorization ?? ''}`)
    response.writeHead(401).end()
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => void server.close())
  const { port } = server.address() as AddressInfo
  const found = await tryMcp('x', `http://boris:hunter2@127.0.0.1:${port}/mcp?key=hunter3`)
  assert.deepEqual([found.state, found.where, seen], ['guarded', `http://127.0.0.1:${port}/mcp`, ['/mcp ']])
})

test('a server that says nothing holds nobody up', async (t) => {
  const silent = createTcp(() => {})
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done))
  t.after(() => void silent.close())
  const { port } = silent.address() as AddressInfo
  assert.equal((await tryMcp('x', `http://127.0.0.1:${port}/`, { timeoutMs: 50 })).state, 'closed')
  assert.equal((await tryPostgres('x', { address: `127.0.0.1:${port}`, database: 'd', users: ['u'] }, 50)).state, 'closed')
})

test('a real PostgreSQL is open with trust, guarded with passwords, and closed where only certificates are taken', async (t) => {
  const postgres = await startPostgres({ dir: await folder(t), hba: 'host all all 127.0.0.1/32 trust\n' })
  t.after(() => postgres.stop())
  const knock = () => tryPostgres('orders', { address: `127.0.0.1:${postgres.port}`, database: 'postgres', users: ['analyst', 'postgres'] })
  const trust = await knock()
  assert.equal(trust.state, 'open')
  assert.match(trust.says, /believes whoever calls himself analyst/)
  const until = async (hba: string, state: string) => {
    await postgres.configure({ hba })
    // The server reads its file again when it has heard the signal; it says nothing then.
    for (let i = 0; i < 200; i++) if ((await knock()).state === state) break
    return knock()
  }
  const password = await until('host all all 127.0.0.1/32 scram-sha-256\n', 'guarded')
  assert.equal(password.state, 'guarded')
  assert.match(password.says, /password \(SCRAM\)/)
  assert.match(password.fix!, /hostssl postgres analyst,postgres all cert/)
  const certificate = await until('hostssl all all 127.0.0.1/32 cert\n', 'closed')
  assert.equal(certificate.state, 'closed')
  assert.match(certificate.says, /pg_hba/)
})

test('what answers in another protocol is no open door of a database', async (t) => {
  const url = new URL(await answering(t, 200, 'hello'))
  assert.equal((await tryPostgres('x', { address: url.host, database: 'd', users: ['u'] }, 500)).state, 'closed')
})

test('client files: what goes around Chaperone is open, with the line that closes it; no value is shown', () => {
  const source = { client: 'cursor' as const, file: '/home/b/.cursor/mcp.json', format: FORMS.cursor.format }
  const server = (name: string, value: unknown, more: object = {}) => ({
    source,
    at: ['mcpServers', name],
    name,
    value,
    ours: false,
    secrets: secretsIn(value),
    ...more,
  })
  const secret = 'ghp_0123456789abcdefghijABCDEFGHIJ456789'
  const found = fileDoors(
    [
      server('gh', { url: 'https://gh.example/mcp/', headers: { Authorization: `Bearer ${secret}` } }),
      server('own', { command: 'own' }),
      server('pdf', { command: 'npx', args: ['pdf-server'] }),
      server('fine', { command: 'chaperone' }, { ours: true }),
      server('was', { command: 'x', env: { T: secret } }, { copy: true }),
      server('clean', { command: 'x' }, { copy: true }),
    ],
    new Map([
      [normal('https://gh.example/mcp'), 'github'],
      [asCommand(['npx', 'pdf-server']), 'documents'],
    ]),
  )
  assert.deepEqual(
    found.map(({ where, fix }) => [where, fix]),
    [
      ['gh', 'chaperone mcp config cursor github, and take gh out of the file'],
      ['own', 'chaperone mcp import own'],
      ['pdf', 'chaperone mcp config cursor documents, and take pdf out of the file'],
      ['was', "rm '/home/b/.cursor/mcp.json'"],
    ],
  )
  assert.doesNotMatch(JSON.stringify(found), new RegExp(secret))
})

test('passwords and tokens that lie about on this computer are doors: by the name of the variable or the line, never by value', () => {
  const secret = 'ghp_0123456789abcdefghijABCDEFGHIJ456789'
  const databases = new Map([['orders', 'db.example:5433']])
  const env = environmentDoors(
    {
      GITHUB_TOKEN: secret,
      PGPASSWORD: 'correct-horse',
      REPORTS: 'postgres://app:s3cret-horse@db.example:5433/orders',
      SSH_AUTH_SOCK: '/run/user/1000/keyring/ssh',
      CHAPERONE_TOTP: '123456789',
      AWS_ACCESS_KEY_FILE: '/home/b/key',
      PATH: '/usr/bin:/bin',
      TOKEN: `${'$'}{elsewhere}`,
      EDITOR: 'vim',
      MAX_TOKENS: '1000000000',
    },
    databases,
  )
  assert.deepEqual(
    env.map(({ where, state }) => [where, state]),
    [
      ['GITHUB_TOKEN', 'open'],
      ['PGPASSWORD', 'open'],
      ['REPORTS', 'open'],
    ],
  )
  assert.match(env[2]!.says, /around Chaperone to postgres\/orders/)
  const text = '# mine\ndb.example:5433:*:app:a\\:b:c\nelse.example:5432:*:app:x\n*:*:*:postgres:y\ndb.example:5432:*:app:z\n\nhalf:a:line\n'
  const files = pgpassDoors('/home/b/.pgpass', text, databases)
  assert.deepEqual(
    files.map(({ fix }) => fix),
    [
      "sed -i '2d' '/home/b/.pgpass', and at the server: ALTER ROLE app PASSWORD NULL. See: chaperone db setup orders",
      "sed -i '4d' '/home/b/.pgpass', and at the server: ALTER ROLE postgres PASSWORD NULL. See: chaperone db setup orders",
    ],
  )
  assert.doesNotMatch(JSON.stringify([...env, ...files]), /ghp_|horse|a:b:c/)
})

test('a line that is shown to be copied runs nothing that a repository has put into the name of a file', () => {
  const file = "/repo/.mcp.json.before-chaperone-x'; touch pwned; '"
  const value = { command: 'x', env: { TOKEN: 'abc' } }
  const source = { client: 'claude-code' as const, file, format: FORMS['claude-code'].format }
  const [old] = fileDoors([{ source, at: ['a'], name: 'a', value, ours: false, secrets: secretsIn(value), copy: true }], new Map())
  assert.equal(old!.fix, "rm '/repo/.mcp.json.before-chaperone-x'\\''; touch pwned; '\\'''")
})
