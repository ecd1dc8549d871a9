import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { McpLimits } from './limits.ts'

/** The body of a POST, whole. Throws `too_large` while reading, not after (peers R11), and `too_slow`. */
export function readBody(request: IncomingMessage, clock: Clock, limits: Pick<McpLimits, 'bodyBytes' | 'bodyMs'>): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const tooLarge = () => new ChaperoneError('too_large', `The message is over the limit of Chaperone, ${limits.bodyBytes} bytes.`)
  if (Number(request.headers['content-length'] ?? 0) > limits.bodyBytes) {
    reject(tooLarge())
    return promise
  }
  const chunks: Buffer[] = []
  let size = 0
  const disarm = clock.at(clock.now() + limits.bodyMs, () =>
    finish(() => reject(new ChaperoneError('too_slow', `The message took more than ${limits.bodyMs / 1000} s to arrive.`))),
  )
  const finish = (then: () => void) => {
    disarm()
    request.off('data', take)
    request.pause()
    then()
  }
  const take = (chunk: Buffer) => {
    size += chunk.length
    if (size > limits.bodyBytes) finish(() => reject(tooLarge()))
    else chunks.push(chunk)
  }
  request.on('data', take)
  request.once('end', () => finish(() => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))))
  request.once('error', (error) => finish(() => reject(new ChaperoneError('malformed', 'The message broke off.', { cause: error }))))
  request.once('close', () => finish(() => reject(new ChaperoneError('malformed', 'The message broke off.'))))
  return promise
}
