import type { IncomingMessage } from 'node:http'
import type { Outcome } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { outcomeOf } from '../types.ts'
import { type Request, readUpstream, type UpstreamMessage } from '../wire.ts'
import { topLevel } from './top-level.ts'
import { responseHeaders } from './upstream.ts'

export interface JsonBody {
  /** of the server, for messages */
  readonly name: string
  /** what it must be the answer to */
  readonly message: Request
  readonly incoming: IncomingMessage
  readonly answer: Answer
  /** It must be seen whole before a byte of it goes out. */
  readonly whole: boolean
  /** A result as it may be shown, or undefined when it may go out as it is. */
  readonly look: (bytes: Buffer) => Promise<string | undefined>
  readonly maxBytes: number
}

/** Bodies up to this size are taken whole and sent in one write; longer ones flow through. */
const WHOLE = 256 * 1024

/**
 * One JSON body of a server to the client. It must be the answer to what was asked, and nothing else: clients take a request,
 * several messages, or the answer to another request for what they are. Rejects with `upstream_unavailable` when it is not.
 */
export async function relayBody(body: JsonBody): Promise<Outcome> {
  const { incoming, answer, message, maxBytes } = body
  const status = incoming.statusCode ?? 0
  const length = Number(incoming.headers['content-length'] ?? Number.POSITIVE_INFINITY)
  // Most servers say no length: what turns out short is taken whole all the same, so that what came of it can be told (peers R73).
  const bytes = body.whole || length <= WHOLE ? await collect(incoming, maxBytes) : await passLong(body)
  if ('status' in bytes) return bytes
  // A result is looked into whatever status it comes with: there are clients that read it all the same.
  const shown = isResult(body.name, message, bytes) ? await body.look(bytes) : undefined
  answer.send(status, shown ?? bytes, responseHeaders(incoming.headers))
  return outcomeOfBody(bytes, status)
}

/** Passes a long body on in pieces, watched. A short one is returned instead. */
async function passLong({ name, message, incoming, answer }: JsonBody): Promise<Buffer | Outcome> {
  let size = 0
  let short: Buffer[] | undefined = []
  let failing = false
  let tail: Buffer = Buffer.alloc(0)
  /** Held back until the next is there: without the end of a body no client reads what went before. */
  let last: Buffer | undefined
  const watched = topLevel(message.id, () => otherAnswer(name))
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length
    const seen = Buffer.concat([tail, chunk])
    failing ||= seen.includes('"error"') || seen.includes('"isError"')
    tail = seen.subarray(-16)
    if (!short) {
      watched.push(chunk)
      if (last) await answer.write(last)
      last = chunk
      continue
    }
    short.push(chunk)
    if (size <= WHOLE) continue
    last = Buffer.concat(short)
    watched.push(last)
    answer.begin(200, responseHeaders(incoming.headers))
    short = undefined
  }
  if (short) return Buffer.concat(short)
  watched.end()
  if (last) await answer.write(last)
  answer.end()
  // Too long to be read for it: nobody can say from here whether it is the word of a failure.
  return { status: failing ? 'unknown' : 'ok', facts: { bytes: size } }
}

function isResult(name: string, { id }: Request, bytes: Buffer): boolean {
  let response: UpstreamMessage | undefined
  try {
    response = readUpstream(bytes.toString('utf8'))
  } catch {
    // Refused below.
  }
  const error = response?.members.has('error')
  // An error to what a server could not read has no id.
  if (response?.kind === 'response' && (response.id === id || (error && response.id === undefined))) return response.members.has('result')
  throw otherAnswer(name)
}

const otherAnswer = (name: string) => new ChaperoneError('upstream_unavailable', `The MCP server ${name} answered something else than it was asked.`)

function outcomeOfBody(bytes: Buffer, status: number): Outcome {
  // Most answers are no failure, which their bytes tell without being decoded.
  if (status === 200 && !bytes.includes('"error"') && !bytes.includes('"isError"')) return { status: 'ok', facts: { bytes: bytes.length } }
  const text = bytes.toString('utf8')
  try {
    const outcome = outcomeOf(text, status === 200 ? {} : { http: status })
    return status === 200 ? outcome : { ...outcome, status: 'failed' }
  } catch {
    // Not for us to judge: the client got the server's own bytes.
    return { status: 'failed', facts: { http: status, unreadable: true } }
  }
}

/** By its events: an iterator over a body that comes in one piece costs more than the body. */
function collect(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let size = 0
  incoming.on('data', (chunk: Buffer) => {
    size += chunk.length
    chunks.push(chunk)
    if (size <= maxBytes) return
    incoming.destroy()
    reject(new ChaperoneError('upstream_unavailable', `The server's answer is over ${maxBytes} bytes.`))
  })
  incoming.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
  incoming.on('error', reject)
  // Every response closes: an error made for nothing, with its stack, was 1 % of a call.
  incoming.on('close', () => {
    if (!incoming.readableEnded) reject(new Error('aborted'))
  })
  incoming.resume()
  return promise
}
