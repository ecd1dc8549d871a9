import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { McpLimits } from './limits.ts'

/** The body of a POST, whole. Throws `too_large` while reading, not after (peers R11), `too_slow`, and `malformed` when it breaks off. */
export function readBody(request: IncomingMessage, clock: Clock, limits: Pick<McpLimits, 'bodyBytes' | 'bodyMs'>): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let size = 0

  const refuse = (code: 'too_large' | 'too_slow' | 'malformed', message: string) => {
    release()
    request.pause()
    reject(new ChaperoneError(code, message))
  }
  const tooLarge = () => refuse('too_large', `The message is over the limit of Chaperone, ${limits.bodyBytes} bytes.`)
  const brokeOff = () => refuse('malformed', 'The message broke off.')
  const take = (chunk: Buffer) => {
    size += chunk.length
    if (size > limits.bodyBytes) tooLarge()
    else chunks.push(chunk)
  }
  const done = () => {
    release()
    resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
  }
  const disarm = clock.at(clock.now() + limits.bodyMs, () => refuse('too_slow', `The message took more than ${limits.bodyMs / 1000} s to arrive.`))
  const release = () => {
    disarm()
    request.off('data', take).off('end', done).off('error', brokeOff).off('close', brokeOff)
  }

  if (Number(request.headers['content-length'] ?? 0) > limits.bodyBytes) tooLarge()
  else request.on('data', take).on('end', done).on('error', brokeOff).on('close', brokeOff)
  return promise
}
