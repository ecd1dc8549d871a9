import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { connect } from 'node:tls'
import { makeAuthority } from './authority.fixture.ts'
import { Entrance } from './entrance.ts'
import { startupPacket } from './wire/write.ts'

test('a TLS session is not taken up again: it would keep a certificate alive that has ended', async (t) => {
  const authority = makeAuthority('identity')
  const listener = authority.pair({ use: 'server', names: ['localhost'] })
  const client = authority.pair({ use: 'database', user: 'boris-ai' })
  const entrance = new Entrance(() => ({ cert: listener.cert, key: listener.key, ca: authority.cert }))
  const server = createServer(async (socket) => {
    const entered = await entrance.enter(socket, AbortSignal.timeout(10_000))
    assert.ok(entered.kind === 'startup')
    entered.socket.end('let in')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const visit = async (session?: Buffer) => {
      const options = { ca: authority.cert, ...client, servername: 'localhost', ALPNProtocols: ['postgresql'], maxVersion }
      const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', ...options, ...(session ? { session } : {}) })
      const sessions: Buffer[] = []
      socket.on('session', (one: Buffer) => sessions.push(one))
      await once(socket, 'secureConnect')
      const isReused = socket.isSessionReused()
      socket.write(startupPacket({ user: 'reader', database: 'prod/shop' }))
      await once(socket.resume(), 'close')
      return { session: sessions.at(-1), isReused }
    }
    const first = await visit()
    if (first.session) assert.equal((await visit(first.session)).isReused, false, maxVersion)
  }
})
