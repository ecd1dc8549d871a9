import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createSecureContext, TLSSocket } from 'node:tls'
import { fakeChaperone } from '../../test/fakes/chaperone.ts'
import type { Keeper } from './credential.ts'
import { type DatabaseDoorOptions, openDatabaseDoor, socketIn } from './database.ts'
import { readOpening, sslRequest, writeStartup } from './startup.ts'

const VERSION = 196608
const READY = Buffer.from('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I')

interface Upstream {
  readonly startup: Map<string, string>
  readonly socket: TLSSocket
  readonly certificate: string
}

async function start(t: TestContext, more: Partial<DatabaseDoorOptions> = {}, answerToSsl = 'S') {
  const server = await fakeChaperone()
  const own = await server.authority.issue(['127.0.0.1'])
  const secureContext = createSecureContext({ key: own.key, cert: own.chain })
  const connections: Upstream[] = []
  const cancels: Buffer[] = []
  const listener = createServer((plain) => {
    plain.on('error', () => {})
    void read(plain, sslRequest().length).then((chunk) => {
      assert.deepEqual(chunk, sslRequest())
      plain.write(answerToSsl)
      if (answerToSsl !== 'S') return
      const socket = new TLSSocket(plain, { isServer: true, secureContext, requestCert: true, rejectUnauthorized: false })
      socket.on('error', () => {})
      let bytes = Buffer.alloc(0)
      let isOpen = false
      socket.on('data', (chunk: Buffer) => {
        if (isOpen) return void socket.write(chunk)
        bytes = Buffer.concat([bytes, chunk])
        const found = readOpening(bytes)
        if (!found) return
        const { opening, size } = found
        if (opening.kind === 'cancel') return void cancels.push(opening.bytes)
        if (opening.kind !== 'startup') throw new Error('no startup')
        isOpen = true
        connections.push({ startup: new Map(opening.parameters), socket, certificate: socket.getPeerX509Certificate()?.serialNumber ?? '' })
        socket.write(READY)
        if (bytes.length > size) socket.write(bytes.subarray(size))
      })
    })
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const kept = await server.keeper()
  const postgres = `127.0.0.1:${(listener.address() as { port: number }).port}`
  const keeper: Keeper = {
    ...kept,
    current: () => ({ ...kept.current(), profile: { ...kept.current().profile, listeners: { data: '', web: '', postgres } } }),
  }
  const folder = await mkdtemp(join(tmpdir(), 'door-'))
  const door = await openDatabaseDoor({ resource: 'prod', database: 'topsecret', keeper, at: { socket: socketIn(folder) }, ...more })
  t.after(async () => {
    await door.close()
    listener.close()
    await server.close()
    await rm(folder, { recursive: true })
  })
  return {
    door,
    connections,
    cancels,
    folder,
    keeper,
    open: () => ('socket' in (more.at ?? { socket: '' }) ? connect(socketIn(folder)) : connect(door.port, '127.0.0.1')),
  }
}

/** What comes, in however many pieces, until there is so much of it. */
const read = (socket: Socket, least: number): Promise<Buffer> => until(socket, (bytes) => bytes.length >= least)
/** A message that says why not, whole. */
const refusal = async (socket: Socket) => (await until(socket, (bytes) => bytes.length > 4 && bytes.length > bytes.readInt32BE(1))).toString()
const until = (socket: Socket, enough: (bytes: Buffer) => boolean): Promise<Buffer> =>
  new Promise((done) => {
    let bytes = Buffer.alloc(0)
    const hear = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      if (!enough(bytes)) return
      socket.off('data', hear)
      done(bytes)
    }
    socket.on('data', hear)
  })
const startup = (values: Record<string, string>) => writeStartup(VERSION, new Map(Object.entries(values)))

test('a client that names no database reaches the resource, with the agent’s certificate', async (t) => {
  const { open, connections } = await start(t, { user: 'analyst_ro' })
  const client = open()
  client.write(sslRequest())
  assert.equal((await read(client, 1)).toString(), 'N')
  client.write(Buffer.concat([startup({ user: 'postgres', database: 'postgres', application_name: 'psql' }), Buffer.from('early')]))
  assert.deepEqual(await read(client, READY.length + 5), Buffer.concat([READY, Buffer.from('early')]))
  client.write('later')
  assert.equal((await read(client, 5)).toString(), 'later')
  const [seen] = connections
  assert.deepEqual(Object.fromEntries(seen!.startup), { user: 'analyst_ro', database: 'prod/topsecret', application_name: 'psql' })
  assert.notEqual(seen!.certificate, '')
  client.destroy()
  await once(seen!.socket, 'close')
})

test('a client that names another database or user is told so, and not led to this one', async (t) => {
  const { open, connections } = await start(t, { user: 'analyst_ro' })
  for (const [asked, said] of [
    [{ user: 'analyst_ro', database: 'payroll' }, /leads to the database topsecret, not to payroll/],
    [{ user: 'owner', database: 'topsecret' }, /leads in as analyst_ro, not as owner/],
  ] as const) {
    const client = open()
    client.write(startup(asked))
    assert.match(await refusal(client), said)
    client.destroy()
  }
  assert.equal(connections.length, 0)
})

test('a folder that others can write to is refused and stays as it is; one of ours is used as it is, and others cannot open what is in it', async (t) => {
  const { keeper } = await start(t)
  const folder = await mkdtemp(join(tmpdir(), 'door-'))
  t.after(() => rm(folder, { recursive: true }))
  const open = () => openDatabaseDoor({ resource: 'prod', database: 'topsecret', keeper, at: { socket: socketIn(folder) } })
  for (const mode of [0o777, 0o1777, 0o770]) {
    await chmod(folder, mode)
    await assert.rejects(open(), { code: 'usage', message: /alone can write/ })
    assert.equal((await stat(folder)).mode & 0o7777, mode)
  }
  await chmod(folder, 0o755)
  const usual = process.umask(0)
  t.after(() => process.umask(usual))
  const door = await open()
  assert.equal((await stat(socketIn(folder))).mode & 0o777, 0o600)
  await door.close()
  assert.equal((await stat(folder)).mode & 0o777, 0o755)
})

test('rule 5: the socket and its folder are open to their owner only', async (t) => {
  const { folder } = await start(t)
  assert.equal((await stat(socketIn(folder))).mode & 0o777, 0o600)
  assert.equal((await stat(folder)).mode & 0o777, 0o700)
})

test('a second door on a live socket is refused; a socket that was left behind is replaced', async (t) => {
  const { folder, keeper, door } = await start(t)
  const again = { resource: 'prod', database: 'topsecret', keeper, at: { socket: socketIn(folder) } }
  await assert.rejects(openDatabaseDoor(again), { code: 'conflict' })
  await door.close()
  await (await openDatabaseDoor(again)).close()
  await assert.rejects(openDatabaseDoor({ ...again, at: { socket: `/tmp/${'x'.repeat(120)}/.s.PGSQL.5432` } }), { code: 'usage' })
})

test('rule 5: a port asks for the password of this run, and opens nothing upstream without it', async (t) => {
  const { door, open, connections } = await start(t, { at: { port: 0 } })
  const passwordMessage = (text: string) => {
    const body = Buffer.from(`${text}\0`)
    const head = Buffer.alloc(5)
    head[0] = 0x70
    head.writeInt32BE(4 + body.length, 1)
    return Buffer.concat([head, body])
  }
  for (const wrong of ['', 'guess', `${door.password}x`]) {
    const client = open()
    client.write(startup({ user: 'a' }))
    assert.deepEqual(await read(client, 9), Buffer.from('R\0\0\0\x08\0\0\0\x03'))
    client.write(passwordMessage(wrong))
    assert.match(await refusal(client), /^E.*28000.*password/s)
    await once(client, 'close')
  }
  assert.deepEqual(connections, [])
  const client = open()
  client.write(startup({ user: 'a' }))
  await read(client, 9)
  client.write(passwordMessage(door.password!))
  assert.deepEqual(await read(client, READY.length), READY)
  client.destroy()
})

test('a cancel request goes on over its own connection', async (t) => {
  const { open, cancels } = await start(t)
  const cancel = Buffer.alloc(16)
  cancel.writeInt32BE(16, 0)
  cancel.writeInt32BE(80877102, 4)
  const client = open()
  client.end(cancel)
  client.resume()
  await once(client, 'close')
  while (cancels.length === 0) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(cancels[0], cancel)
})

test('what is no PostgreSQL, and a gateway that is none, is said in the protocol’s words', async (t) => {
  const { open } = await start(t)
  const client = open()
  client.write('GET / HTTP/1.1\r\n\r\n')
  assert.match(await refusal(client), /^E.*FATAL.*54000/s)
  const plain = await start(t, {}, 'N')
  const refused = plain.open()
  refused.write(startup({ user: 'a' }))
  assert.match(await refusal(refused), /does not speak PostgreSQL over TLS/)
})

test('bytes that came before the encryption began are refused, as libpq does since CVE-2021-23222', async (t) => {
  const { open } = await start(t, {}, 'SR\0\0\0\x08\0\0\0\0')
  const client = open()
  client.write(startup({ user: 'a' }))
  assert.match(await refusal(client), /does not speak PostgreSQL over TLS/)
})
