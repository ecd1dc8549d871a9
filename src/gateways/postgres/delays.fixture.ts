import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Rig } from './rig.fixture.ts'

/** Puts a slow way between the gateway of the rig and its database: each piece of either direction waits `ms()`, in order. */
export async function delayUpstream(rig: Rig, ms: () => number) {
  const { spec } = rig.parts.resources.list('postgres')[0]! as { spec: { address: string } }
  const before = spec.address
  const port = Number(before.split(':').at(-1))
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    const far = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [socket, far],
      [far, socket],
    ] as const) {
      sockets.add(from)
      let last = Promise.resolve()
      const later = (then: () => void) => {
        last = last.then(() => new Promise((done) => setTimeout(done, ms()))).then(then)
      }
      from.on('data', (chunk) => later(() => to.write(chunk)))
      from.on('end', () => later(() => to.end()))
      from.on('close', () => {
        sockets.delete(from)
        later(() => to.destroy())
      })
      from.on('error', () => {})
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  spec.address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    /** Breaks all connections off, as a firewall does. */
    reset() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    stop() {
      spec.address = before
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
