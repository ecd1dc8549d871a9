import type { IncomingMessage } from 'node:http'

/** So long a client that still sends has time to read what it is answered. */
const LINGER_MS = 500

/**
 * What was not read of a refused request is not read at all (peers R11). A socket that is closed with bytes of its client
 * unread is reset, and a reset takes the answer with it (RFC 9112 section 9.6): so nothing more is read, the client's own
 * writing comes to a halt, and only then the socket goes.
 */
export function letGo(request: IncomingMessage): void {
  request.pause()
  const late = setTimeout(() => request.destroy(), LINGER_MS)
  late.unref()
  request.once('close', () => clearTimeout(late))
}
