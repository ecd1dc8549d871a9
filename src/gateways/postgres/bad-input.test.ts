import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { after, before, beforeEach, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { manualClock } from '../../clock.ts'
import { makeAuthority } from './authority.fixture.ts'
import { postgresGateway } from './gateway.ts'
import { message, sync } from './raw.fixture.ts'
import { READER, type Rig, startRig, until } from './rig.fixture.ts'
import { readErrorFields } from './wire/server.ts'
import { cancelRequest, parseMessage as parse, queryMessage as query, sslRequest, startupPacket } from './wire/write.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ limits: { connections: 12, statementBytes: 2000, messageBytes: 100_000 } })
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [READER]
  rig.records.length = 0
  rig.events.length = 0
})

const refusedConnections = () => rig.events.filter((event) => event.type === 'connection.refused').map((event) => event.data?.reason)

async function tcp(): Promise<Socket> {
  const socket = connectTcp(rig.port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** Everything that comes until the other side closes. */
async function rest(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  await once(socket, 'close')
  return Buffer.concat(chunks)
}

test('without TLS nobody gets in, and is told how', async () => {
  const socket = await tcp()
  socket.write(startupPacket({ user: 'reader', database: 'prod/shop' }))
  const fields = readErrorFields(await rest(socket))
  assert.deepEqual([fields.get('S'), fields.get('C')], ['FATAL', '28000'])
  assert.match(fields.get('M')!, /Only TLS/)
  assert.deepEqual(refusedConnections(), ['unauthenticated'])
})

test('bytes in the clear behind the request for TLS are refused (CVE-2021-23214)', async () => {
  const socket = await tcp()
  socket.write(Buffer.concat([sslRequest(), startupPacket({ user: 'reader', database: 'prod/shop' })]))
  assert.match((await rest(socket)).toString(), /in the clear/)
})

test('GSS encryption is declined, and TLS may follow', async () => {
  const socket = await tcp()
  const gss = sslRequest()
  gss.writeInt32BE(80_877_104, 4)
  socket.write(gss)
  assert.equal(String((await once(socket, 'data'))[0]), 'N')
  socket.write(sslRequest())
  assert.equal(String((await once(socket, 'data'))[0]), 'S')
  socket.destroy()
})

test('TLS without asking first needs the ALPN protocol postgresql', async () => {
  const open = (protocols: string[]) =>
    connectTls({ port: rig.port, host: '127.0.0.1', ca: rig.identities.cert, ...rig.client, ALPNProtocols: protocols, servername: 'prod.localhost' })
  const socket = open(['postgresql'])
  await once(socket, 'secureConnect')
  // The resource is the first label of the server name here.
  socket.write(startupPacket({ user: 'reader', database: 'shop' }))
  assert.equal(((await once(socket, 'data')) as [Buffer])[0][0], 'R'.charCodeAt(0))
  socket.destroy()
  const other = open([])
  other.on('error', () => {})
  await rest(other)
  await until(() => refusedConnections().at(-1) === 'malformed')
})

test('no certificate, and one of another authority, are refused and recorded', async () => {
  await assert.rejects(rig.raw('reader', {}, { cert: undefined, key: undefined }), /A client certificate is needed/)
  const foreign = makeAuthority('foreign').pair({ use: 'database', user: 'boris-ai' })
  await assert.rejects(rig.raw('reader', {}, foreign), /another authority/)
  await until(() => refusedConnections().length === 2)
  assert.deepEqual(refusedConnections(), ['unauthenticated', 'credential_invalid'])
})

test('what is not PostgreSQL at all is turned away', async () => {
  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    '\0\0\0\x04',
    '\xff\xff\xff\xff\xff\xff\xff\xff',
    '\0\0\0\x09\0\x02\0\0\0',
    '\x16\x03\x01\0\x05hello and more',
  ]) {
    const socket = await tcp()
    socket.write(Buffer.from(bytes, 'latin1'))
    await rest(socket)
  }
  assert.equal(rig.records.length, 0)
  await until(() => refusedConnections().length === 5)
})

test('a first packet that stops in the middle is given up on', async () => {
  const clock = manualClock(Date.now())
  const gateway = postgresGateway({ ...rig.parts, clock })
  const { createServer } = await import('node:net')
  const server = createServer((socket) => gateway.accept(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connectTcp((server.address() as { port: number }).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(sslRequest().subarray(0, 5))
  await until(() => gateway.connections === 1)
  await new Promise((done) => setTimeout(done, 20))
  clock.advance(10_001)
  assert.match((await rest(socket)).toString(), /No startup packet came in time/)
  await gateway.close()
  server.close()
})

test('rule 11: more sockets than the limit are turned away, and others live on', async () => {
  const raw = await rig.raw('reader')
  const many = await Promise.all(Array.from({ length: 30 }, () => tcp()))
  await until(() => refusedConnections().filter((reason) => reason === 'too_many').length >= 19)
  raw.send(query('select 1'))
  assert.deepEqual(await raw.answers(), ['D:1', 'C:SELECT 1', 'ZI'])
  for (const socket of many) socket.destroy()
  raw.end()
  await until(() => rig.gateway.connections === 0)
})

test('SQL that is no SQL, holds a NUL, is not UTF-8 or is too long is refused, and the connection lives on', async () => {
  const raw = await rig.raw('reader')
  const cases: readonly (readonly [Buffer, string, RegExp])[] = [
    [query('selec 1'), '42601', /syntax error/],
    [message('Q', Buffer.from('select 1\0; drop table customers\0')), '08P01', /NUL/],
    [message('Q', Buffer.from('select 1')), '08P01', /no end/],
    [message('Q', Buffer.from('select \xff\xfe\0', 'latin1')), '08P01', /UTF-8/],
    [query(`select '${'x'.repeat(5000)}'`), '54000', /over the limit of 2000/],
    [query(`select '${'x'.repeat(90_000)}'`), '54000', /over the limit/],
    [query(`select ${'('.repeat(900)}1${')'.repeat(900)}`), '', /./],
  ]
  for (const [bytes, code, text] of cases) {
    raw.send(bytes, query('select 7'))
    const answers = await raw.answers(2)
    if (code !== '') assert.equal(answers[0], `E:${code}`, String(text))
    assert.deepEqual(answers.slice(-3), ['D:7', 'C:SELECT 1', 'ZI'])
  }
  for (const body of ['\0select 1\0; drop\0\0\0', '\0select 1\0\0\x05', 'select 1']) {
    raw.send(message('P', Buffer.from(body)), sync(), query('select 7'))
    assert.deepEqual(await raw.answers(2), ['E:08P01', 'ZI', 'D:7', 'C:SELECT 1', 'ZI'])
  }
  raw.end()
  assert.ok(rig.events.filter((event) => event.type === 'message.refused').length >= 8)
  // What cannot be parsed is recorded as it was sent, as a refused action.
  assert.equal(rig.records.find((record) => record.kind === 'refused')?.bodies.statement, 'selec 1')
})

test('a FunctionCall, which has no text that could be judged, reaches nobody', async () => {
  const oid = Number((await rig.admin.query("select 'touch()'::regprocedure::oid::int as oid")).rows[0].oid)
  const body = Buffer.alloc(10)
  body.writeInt32BE(oid)
  const raw = await rig.raw('writer')
  raw.send(message('F', body), query('select count(*) from touched'))
  assert.deepEqual(await raw.answers(2), ['E:0A000', 'ZI', 'D:0', 'C:SELECT 1', 'ZI'])
  raw.end()
})

test('messages that cannot be followed end the connection, and say why', async () => {
  const length = (type: string, bytes: number) => {
    const frame = Buffer.alloc(5)
    frame.write(type)
    frame.writeInt32BE(bytes, 1)
    return frame
  }
  for (const [bytes, code] of [
    [length('Q', 3), '08P01'],
    [length('Q', -5), '08P01'],
    [length('Q', 2_000_000_000), '54000'],
    [length('S', 2_000_000_000), '54000'],
    [length('%', 4), '08P01'],
    [length('p', 5), '08P01'],
  ] as const) {
    const raw = await rig.raw('reader')
    raw.send(bytes, Buffer.from('x'))
    const fields = await raw.error()
    assert.deepEqual([fields.get('C'), fields.get('S')], [code, code === '08P01' && bytes[0] === 'p'.charCodeAt(0) ? 'ERROR' : 'FATAL'])
    raw.end()
  }
})

test('a message that is cut off in the middle reaches nobody', async () => {
  const raw = await rig.raw('reader')
  raw.send(query('select 1').subarray(0, 8))
  raw.socket.end()
  await until(() => rig.events.some((event) => event.type === 'connection.closed'))
  assert.deepEqual(
    rig.records.map((record) => record.action.operation),
    ['connect'],
  )
  raw.end()
})

test('a cancel in the clear with a wrong key is taken and answered by nothing', async () => {
  const socket = await tcp()
  socket.write(cancelRequest(1, Buffer.from('abcd')))
  assert.equal((await rest(socket)).length, 0)
})

test('a database that cannot be reached, or asks for a password, is said without a secret', async () => {
  const raw = rig.raw('nobody').catch((error: Error) => error.message)
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read' }] }]
  assert.match(String(await raw), /No role|refused|password/)
  assert.match(String(await rig.raw('nobody').catch((error: Error) => error.message)), /asks for a (SCRAM )?password/)
  const found = rig.parts.resources.find('postgres', 'prod')!
  const spec = found.spec as { address: string }
  const { address } = spec
  spec.address = '127.0.0.1:1'
  assert.match(String(await rig.raw('reader').catch((error: Error) => error.message)), /cannot be reached/)
  spec.address = address
  assert.ok(rig.faults.length > 0)
})

test('rule 3: without a record there is no connection, and no statement', async () => {
  const { guard } = rig
  const admit = guard.admit
  const raw = await rig.raw('reader')
  const { ChaperoneError } = await import('../../errors.ts')
  guard.admit = () => Promise.reject(new ChaperoneError('audit_unavailable', 'The record cannot be written.'))
  raw.send(query('select 1'))
  assert.deepEqual(await raw.answers(), ['E:58030', 'ZI'])
  await assert.rejects(rig.raw('reader'), /cannot be written/)
  guard.admit = admit
  raw.end()
})

test('a syntax error is said as a database says it, with its place, and with the decision', async () => {
  const raw = await rig.raw('reader')
  for (const messages of [[query("select 'é' fro m x")], [parse('', "select 'é' fro m x"), sync()]]) {
    raw.send(...messages)
    const error = await raw.error()
    await raw.answers()
    assert.equal(error.get('M'), 'syntax error at or near "m"')
    assert.deepEqual([error.get('C'), error.get('P')], ['42601', '16'])
    assert.match(error.get('D')!, /^reason not_understood, decision /)
    assert.doesNotMatch(error.get('H')!, /ask the person/)
  }
  raw.send(parse('', 'select 1; select 2'), sync())
  assert.equal((await raw.error()).get('M'), 'Chaperone refused this: a prepared statement is one statement.')
  await raw.answers()
  raw.end()
})
