import type { IncomingMessage } from 'node:http'
import { ChaperoneError } from '../../errors.ts'

/** What is read of a body is counted where it is read: a body in chunks says nothing of its length before. */
export function boundBody(request: IncomingMessage, most: number): void {
  const iterate = request.iterator.bind(request)
  request.iterator = (options) => counted(iterate(options), most)
}

async function* counted(chunks: AsyncIterable<Buffer>, most: number): AsyncGenerator<Buffer> {
  let read = 0
  for await (const chunk of chunks) {
    read += chunk.length
    if (read > most) throw new ChaperoneError('too_large', 'The body is too large.')
    yield chunk
  }
}
