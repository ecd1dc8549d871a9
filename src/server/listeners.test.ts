import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { listenTcp } from './listeners.ts'

/** Connects from one loopback address; resolves to whether it was let in. */
async function knock(t: TestContext, address: string, from: string): Promise<Socket> {
  const [host, port] = address.split(':')
  const socket = connect({ host: host!, port: Number(port), localAddress: from })
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

test('rule 11: one address that holds all the connections it can get leaves room for the others', async (t) => {
  const accepted: Socket[] = []
  const listening = await listenTcp(
    '127.0.0.1:0',
    (socket) => {
      accepted.push(socket)
      socket.write('hello')
    },
    { perAddress: 5 },
  )
  t.after(() => listening.close(0))
  const sockets: Socket[] = []
  for (let i = 0; i < 5; i++) {
    const socket = await knock(t, listening.address, '127.0.0.1')
    await once(socket, 'data')
    sockets.push(socket)
  }
  const sixth = await knock(t, listening.address, '127.0.0.1')
  const fate = await Promise.race(['data', 'close'].map((event) => once(sixth, event).then(() => event)))
  assert.equal(fate, 'close', 'the sixth is turned away')
  await once(await knock(t, listening.address, '127.0.0.2'), 'data')
  sockets[0]!.destroy()
  await once(accepted[0]!, 'close')
  await once(await knock(t, listening.address, '127.0.0.1'), 'data')
})
