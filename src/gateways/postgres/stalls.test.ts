import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { systemClock } from '../../clock.ts'
import { withDeadline } from './database/deadline.ts'
import { secureSocket } from './database/upstream.ts'
import { delayUpstream } from './delays.fixture.ts'
import { bind, close, execute, flush, sync } from './raw.fixture.ts'
import { ANYTHING, type Rig, startRig, until } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query, sslRequest, startupPacket } from './wire/write.ts'

/** Nothing here may wait for ever: states in which nothing is in flight, and the client waits all the same. */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
})
after(() => rig.stop())

const BRIEF = { timeout: 40_000 }

test('a server that says yes to TLS and then nothing is given up when the time is over', BRIEF, async () => {
  const sockets: Socket[] = []
  const mute = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.once('data', () => socket.write('S'))
  }).listen(0, '127.0.0.1')
  await once(mute, 'listening')
  const spec = { address: `127.0.0.1:${(mute.address() as AddressInfo).port}`, tls: { ca: rig.authority.cert } }
  await assert.rejects(
    withDeadline(new AbortController().signal, systemClock, 200, (deadline) => secureSocket(spec as never, 'res', rig.parts.ca, deadline)),
    { code: 'upstream_timeout' },
  )
  for (const socket of sockets) socket.destroy()
  mute.close()
})

test('a batch of more messages than are kept waiting, with nothing to run in it, comes to its end', BRIEF, async () => {
  const raw = await rig.raw('writer')
  raw.send(...Array.from({ length: 700 }, (_, i) => close('S', `s${i}`)), sync())
  assert.equal((await raw.answers()).at(-1), 'ZI')
  raw.send(...Array.from({ length: 700 }, (_, i) => parse(`s${i}`, 'select 1')), sync())
  assert.equal((await raw.answers()).at(-1), 'ZI')
  raw.end()
})

test('what is sent after an error and before the Sync is not answered, as by the server', BRIEF, async () => {
  const raw = await rig.raw('writer')
  raw.send(parse('a', 'select 1 / 0'), bind('', 'a'), execute(''), flush())
  assert.equal((await raw.error()).get('C'), '22012')
  raw.send(parse('b', 'select 2'), bind('', 'b'), execute(''))
  raw.send(query('select 3'))
  raw.send(sync())
  assert.deepEqual(await raw.answers(), ['ZI'])
  raw.send(parse('b', 'select 4'), bind('', 'b'), execute(''), sync())
  assert.deepEqual(await raw.answers(), ['1', '2', 'D:4', 'C:SELECT 1', 'ZI'])
  raw.send(query('set search_path = app'), query('select 5'))
  assert.deepEqual((await raw.answers(2)).slice(-3), ['D:5', 'C:SELECT 1', 'ZI'])
  raw.end()
  await until(() => rig.open.size === 0)
})

test('a client that breaks away while it is let in leaves nothing open', BRIEF, async () => {
  const held = Promise.withResolvers<void>()
  rig.gate.wait = held.promise
  const { length } = rig.events
  const tcp = connect(rig.port, '127.0.0.1')
  tcp.on('error', () => {})
  tcp.write(sslRequest())
  await once(tcp, 'data')
  const socket = connectTls({ socket: tcp, ca: rig.identities.cert, ...rig.client, checkServerIdentity: () => undefined })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  const identified = rig.connections.length
  socket.write(startupPacket({ user: 'writer', database: 'prod/shop' }))
  await until(() => rig.connections.length > identified)
  tcp.resetAndDestroy()
  await until(() => rig.gateway.connections === 0)
  rig.gate.wait = undefined
  held.resolve()
  await until(() => rig.events.slice(length).some(({ type }) => type === 'connection.closed'))
  assert.equal(rig.open.size, 0)
})

test('a server that breaks away while the opening is recorded is said to be gone', BRIEF, async () => {
  const { append } = rig.parts.audit
  const opened = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  rig.parts.audit.append = async (draft) => {
    if (draft.type === 'connection.opened') {
      opened.resolve()
      await go.promise
    }
    return await append(draft)
  }
  const delayed = await delayUpstream(rig, () => 0)
  try {
    const coming = rig.raw('writer')
    await opened.promise
    delayed.reset()
    await new Promise((done) => setTimeout(done, 100))
    go.resolve()
    assert.equal((await (await coming).error()).get('C'), '57P01')
  } finally {
    delayed.stop()
    rig.parts.audit.append = append
  }
})
