import type { IncomingMessage } from 'node:http'

/** So much of a refused request is thrown away unread by anybody: then its connection serves the next one. */
const DISCARDED_BYTES = 256 * 1024
/** So long a client that still sends has time to read what it is answered. */
const LINGER_MS = 500

/**
 * What was not read of a refused request is not kept, and hardly read (peers R11). A socket that is closed with bytes of its
 * client unread is reset, and a reset takes the answer with it (RFC 9112 section 9.6): so a little is thrown away, for more
 * than that nothing is read, the client's own writing comes to a halt, and only then the socket goes.
 */
export function letGo(request: IncomingMessage): void {
  let left = DISCARDED_BYTES
  const late = setTimeout(() => request.destroy(), LINGER_MS)
  late.unref()
  const over = () => clearTimeout(late)
  request.once('end', over)
  request.once('close', over)
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) request.pause()
  })
  request.resume()
}
