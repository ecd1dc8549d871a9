import { type Duplex, duplexPair } from 'node:stream'

/** A stream that node-postgres takes in place of a socket: `new pg.Client({ stream: () => wire })`. */
export type Wire = Duplex & {
  connect(): void
  setNoDelay(): void
  setKeepAlive(): void
  ref(): void
  unref(): void
}

/** Two ends of one connection inside this process. What one writes the other reads; when one goes, so does the other. */
export function wirePair(): readonly [client: Wire, server: Duplex] {
  const [client, server] = duplexPair()
  const nothing = () => {}
  const wire = Object.assign(client, {
    connect: () => void process.nextTick(() => client.emit('connect')),
    setNoDelay: nothing,
    setKeepAlive: nothing,
    ref: nothing,
    unref: nothing,
  })
  // `close` alone tells: a pair has no network that could fail.
  for (const [end, other] of [
    [client, server],
    [server, client],
  ] as const) {
    end.on('error', nothing)
    end.once('close', () => other.destroy())
  }
  return [wire, server]
}
