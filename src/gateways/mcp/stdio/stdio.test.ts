import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { startPostgres } from '../../../demo/postgres.ts'
import { programs } from '../../../demo/programs.ts'
import { answerOf, type Harness, harness, type Json, openSession } from '../harness.fixture.ts'
import { probe } from './isolation.ts'

// Where the user that an isolated child runs as can read them, also when this checkout lies in a private home.
const open = mkdtempSync(join(tmpdir(), 'chaperone-programs-'))
chmodSync(open, 0o755)
const { node, filesystemServer, postgresServer } = await programs(open)
after(() => rmSync(open, { recursive: true, force: true }))
// An ordinary user without bubblewrap can isolate nothing; the rest holds there too.
const means = await probe()
const isolation = means.bubblewrap.works || means.user.works ? {} : { isolation: 'none' }

describe('a real stdio server behind the gateway', () => {
  let given: Harness
  const folder = mkdtempSync(join(tmpdir(), 'chaperone-files-'))
  chmodSync(folder, 0o755)
  writeFileSync(join(folder, 'report.txt'), 'quarterly figures')
  writeFileSync(join(folder, 'secret.txt'), 'not for agents')
  for (const name of ['report.txt', 'secret.txt']) chmodSync(join(folder, name), 0o644)

  before(async () => {
    given = await harness({
      role: {
        allow: [
          { mcp: 'files', tools: ['list_*'] },
          { mcp: 'files', tools: 'read_text_file', args: { path: { under: join(folder, 'report.txt') } } },
        ],
      },
      servers: { files: { command: [node, filesystemServer, folder], read: [folder], ...isolation } },
    })
  })
  after(async () => {
    await given.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const connected = async () => {
    const client = new Client({ name: 'test', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(`${given.base}files`)))
    return client
  }

  test("rule 10: a real client lists and calls tools, and the answer is the server's own", async () => {
    const client = await connected()
    const { tools } = await client.listTools()
    assert.deepEqual(tools.map((tool) => tool.name).sort(), [
      'list_allowed_directories',
      'list_directory',
      'list_directory_with_sizes',
      'read_text_file',
    ])
    const result = await client.callTool({ name: 'read_text_file', arguments: { path: join(folder, 'report.txt') } })
    assert.deepEqual(result.content, [{ type: 'text', text: 'quarterly figures' }])
    assert.deepEqual(result.structuredContent, { content: 'quarterly figures' })
    await client.close()
  })

  test('rule 8: a refused call is a tool result that a model can read, and it is recorded', async () => {
    const client = await connected()
    const result = (await client.callTool({ name: 'read_text_file', arguments: { path: join(folder, 'secret.txt') } })) as {
      isError?: boolean
      content: { text: string }[]
      _meta: Json
    }
    assert.equal(result.isError, true)
    assert.match(result.content[0]!.text, /Chaperone refused the call of read_text_file on files.*no_rule.*per_/s)
    assert.equal(result._meta['dev.chaperone/refusal'].reason, 'no_rule')
    const refused = given.of('action.refused').at(-1)!
    assert.equal(refused.action?.summary, 'tools/call read_text_file')
    assert.match(String(refused.bodies?.[0]?.bytes), /secret\.txt/)
    await client.close()
  })

  test('rule 2: a path that leads out of the allowed one is refused', async () => {
    const client = await connected()
    const result = await client.callTool({ name: 'read_text_file', arguments: { path: join(folder, 'report.txt', '..', 'secret.txt') } })
    assert.equal(result.isError, true)
    await client.close()
  })

  test('rule 3: each request has one intent before it and one outcome after it', async () => {
    const session = await openSession(given, 'files')
    // Else the list that comes before a first call is recorded as well.
    await (await given.post('files', { jsonrpc: '2.0', id: 0, method: 'tools/list' }, session)).text()
    const start = given.records.length
    await answerOf(
      await given.post(
        'files',
        { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_directory', arguments: { path: folder } } },
        session,
      ),
    )
    const [intent, outcome] = given.records.slice(start)
    assert.equal(intent?.type, 'action.intent')
    assert.equal(outcome?.type, 'action.outcome')
    assert.equal(outcome?.permit, intent?.id)
    assert.equal(outcome?.outcome?.status, 'ok')
    assert.equal(given.records.length, start + 2)
  })

  test('the start of the server is recorded with how it is isolated', () => {
    const started = given.of('server.started')[0]!
    assert.ok(['bubblewrap', 'user', 'none'].includes(String(started.data?.isolation)))
    assert.equal(JSON.stringify(started).includes(readFileSync(join(given.dataDir, 'keys', 'root'), 'utf8')), false)
    assert.ok(dirname(given.dataDir))
  })
})

describe('the archived postgres server, whose read-only mode is known to be bypassed', () => {
  test('rule 1: only the statements of the role reach it, and its odd answers pass as they are', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'chaperone-mcp-postgres-'))
    const postgres = await startPostgres({ dir })
    t.after(() => postgres.stop())
    const url = new URL(postgres.superuserUrl)
    const password = url.password
    url.password = ''
    const given = await harness({
      role: { allow: [{ mcp: 'sql', tools: ['query'], args: { sql: ['SELECT 1 AS one', 'SELECT 1; SELECT 2'] } }] },
      servers: { sql: { command: [node, postgresServer, url.href], env: { PGPASSWORD: { secret: 'pg' } }, ...isolation } },
      secrets: { pg: password },
    })
    t.after(() => given.close())
    const session = await openSession(given, 'sql')
    const query = async (sql: string): Promise<Json> =>
      (
        await answerOf(
          await given.post('sql', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'query', arguments: { sql } } }, session),
        )
      ).result
    assert.match((await query('SELECT 1 AS one')).content[0].text, /"one": 1/)
    const bypass = await query('COMMIT; CREATE TABLE pwned(i int); COMMIT')
    assert.equal(bypass.isError, true)
    assert.match(bypass.content[0].text, /Chaperone refused the call of query on sql/)
    assert.match(String(given.of('action.refused').at(-1)?.bodies?.[0]?.bytes), /pwned/)
    // The SDK's schema throws on this text block without a text; a proxy that passes bytes does not notice.
    assert.deepEqual(await query('SELECT 1; SELECT 2'), { content: [{ type: 'text' }], isError: false })
  })
})
