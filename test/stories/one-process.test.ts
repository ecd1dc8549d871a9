import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { openLogForReading, verifyLog } from '../../src/audit/verify.ts'
import { ofFile } from '../parts/of-file.ts'
import { chaperone, folder, up, upOn } from '../parts/process.ts'

/** The life of one `chaperone up`: first start, stop, crash, and everything that can be wrong with its places. */

const get = (address: string, path: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number; text: string }>((done, fail) => {
    const [host, port] = [address.slice(0, address.lastIndexOf(':')), address.slice(address.lastIndexOf(':') + 1)]
    const out = request({ host, port, path, headers, rejectUnauthorized: false, agent: false }, (answer) => {
      let text = ''
      answer.on('data', (chunk) => {
        text += chunk
      })
      answer.on('end', () => done({ status: answer.statusCode ?? 0, text }))
    })
    out.on('error', fail)
    out.end()
  })

/** Of those that leave it as it is. */
const own = ofFile(async (t) => {
  const dir = join(await folder(t), 'data')
  return { dir, server: await up(t, dir) }
})

test('the first start makes a private place, prints one invitation, and is ready', async () => {
  const { dir, server } = own
  assert.match(server.invitation ?? '', /^chaperone:\/\/127\.0\.0\.1:\d+\/[\w-]+\?ca=[0-9a-f]{64}$/)
  assert.equal((await stat(dir)).mode & 0o777, 0o700)
  assert.equal((await stat(`${dir}.root-key`)).mode & 0o777, 0o600)
  for (const file of await readdir(dir)) assert.equal((await stat(join(dir, file))).mode & 0o077, 0, `${file} is private`)
  assert.deepEqual(await get(server.addresses.web, '/healthz'), { status: 200, text: 'ok\n' })
  assert.deepEqual(await get(server.addresses.web, '/readyz'), { status: 200, text: 'ready\n' })
  assert.match((await get(server.addresses.web, '/metrics')).text, /chaperone_records_total\{type="node.started"\} 1/)
})

test('a second start on the same data directory is refused, and the first goes on', async () => {
  const { dir, server: first } = own
  const second = await chaperone(upOn(dir))
  assert.notEqual(second.code, 0)
  assert.match(second.err, /already_running/)
  assert.equal((await get(first.addresses.web, '/readyz')).status, 200)
})

test('SIGTERM stops it cleanly, and it starts again as the same node with the same authority', async (t) => {
  const dir = join(await folder(t), 'data')
  const first = await up(t, dir)
  assert.equal(await first.kill('SIGTERM'), 0)
  const second = await up(t, dir)
  assert.equal(second.invitation?.split('?ca=')[1], first.invitation?.split('?ca=')[1], 'the authority is the same')
  assert.notEqual(second.invitation, first.invitation, 'until somebody has enrolled, each start makes a new invitation')
  assert.equal(await second.kill('SIGTERM'), 0)
  const log = await openLogForReading({ dataDir: dir })
  const report = await verifyLog(log)
  await log.close()
  assert.deepEqual(report.problems, [])
})

test('after kill -9 nothing that was recorded is lost, and it starts again', async (t) => {
  const dir = join(await folder(t), 'data')
  const first = await up(t, dir)
  await first.kill('SIGKILL')
  const second = await up(t, dir)
  assert.equal((await get(second.addresses.web, '/readyz')).status, 200)
  await second.kill('SIGTERM')
  const log = await openLogForReading({ dataDir: dir })
  const report = await verifyLog(log)
  await log.close()
  assert.deepEqual(report.problems, [])
  assert.ok(report.records >= 4, 'two starts, two invitations')
})

test('rule 1: the wrong root key opens nothing, and the message names the file', async (t) => {
  const home = await folder(t)
  const dir = join(home, 'data')
  await (await up(t, dir)).kill('SIGTERM')
  const other = join(home, 'other.key')
  await writeFile(other, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 })
  const wrong = await chaperone(upOn(dir, '--root-key', other))
  assert.equal(wrong.code, 8)
  assert.match(wrong.err, /key_mismatch/)
  assert.ok(wrong.err.includes(other))
})

test('a store of a newer Chaperone is refused, untouched', async (t) => {
  const dir = join(await folder(t), 'data')
  await (await up(t, dir)).kill('SIGTERM')
  const db = new DatabaseSync(join(dir, 'chaperone.db'))
  const schema = db.prepare("SELECT value FROM meta WHERE key = 'schema'").get() as { value: string }
  db.prepare("UPDATE meta SET value = ? WHERE key = 'schema'").run(
    /^\d+$/.test(schema.value) ? String(Number(schema.value) + 1) : '9999-from-the-future',
  )
  db.close()
  const newer = await chaperone(upOn(dir))
  assert.equal(newer.code, 8)
  assert.match(newer.err, /schema_newer/)
})

test('a taken port says which one, and what to do', async (t) => {
  const dir = join(await folder(t), 'data')
  const squatter = createServer()
  await new Promise<void>((done) => squatter.listen(0, '127.0.0.1', done))
  t.after(() => new Promise<void>((done) => squatter.close(() => done())))
  const { port } = squatter.address() as { port: number }
  const taken = await chaperone([
    'up',
    '--data-dir',
    dir,
    '--listen',
    `127.0.0.1:${port}`,
    '--web-listen',
    '127.0.0.1:0',
    '--postgres-listen',
    '127.0.0.1:0',
  ])
  assert.notEqual(taken.code, 0)
  assert.ok(taken.err.includes(`127.0.0.1:${port}`), taken.err)
  assert.match(taken.err, /--listen/)
})

test('a data directory that others can read is refused', async (t) => {
  const dir = join(await folder(t), 'data')
  await mkdir(dir, { mode: 0o755 })
  await chmod(dir, 0o755)
  const open = await chaperone(upOn(dir))
  assert.notEqual(open.code, 0)
  assert.match(open.err, /chmod|0700/)
})

test('a Host or Origin that is not ours is refused on every listener', async () => {
  const { server } = own
  for (const address of [server.addresses.web, server.addresses.data]) {
    assert.equal((await get(address, '/healthz', { Host: 'evil.example.com' })).status, 403)
    assert.equal((await get(address, '/healthz', { Origin: 'https://evil.example.com' })).status, 403)
    assert.equal((await get(address, '/healthz', { Origin: 'null' })).status, 403)
    assert.equal((await get(address, '/healthz', { Host: 'localhost:1', Origin: 'https://localhost:1' })).status, 200)
  }
})

test('rule 2: a request with more headers than are read is refused, not read without its last ones', async () => {
  const { server } = own
  const filler = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [`x-${i}`, '1']))
  assert.equal((await get(server.addresses.web, '/healthz', { ...filler, Origin: 'https://evil.example.com' })).status, 431)
})

test('rule 9: without a credential there is no way in', async () => {
  const { server } = own
  for (const path of ['/mcp/anything', '/anything', '/v1/whoami', '/v1/documents', '/v1/audit']) {
    const data = await get(server.addresses.data, path)
    assert.equal(data.status, 401, `${path} on the data listener: ${data.text}`)
    const web = await get(server.addresses.web, path)
    assert.equal(web.status, 401, `${path} on the web listener`)
  }
  const forged = await get(server.addresses.web, '/mcp/anything', { Authorization: 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.' })
  assert.equal(forged.status, 401)
})
