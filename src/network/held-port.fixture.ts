import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'

/**
 * A port of the loopback where nobody listens, and where nobody can begin to: it is one end of a connection. A port that was
 * merely free a moment ago is given to the next process that asks for any.
 */
export async function heldPort(): Promise<{ readonly port: number; release(): void }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [other] = await accepted
  const { port } = await new Promise<AddressInfo>((done) => {
    const look = () => done(socket.address() as AddressInfo)
    if (socket.connecting) socket.once('connect', look)
    else look()
  })
  for (const end of [socket, other]) end.on('error', () => {})
  return {
    port,
    release() {
      other.destroy()
      socket.destroy()
      server.close()
    },
  }
}
