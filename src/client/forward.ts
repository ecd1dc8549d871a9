import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { ChaperoneError } from '../errors.ts'
import type { DataPlane } from './data-plane.ts'

/** One request of a local program, sent on as the identity whose credential is kept. */

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'host',
])
/** What a client believes to be its login here; the only identity that goes on is the certificate. */
const NOT_FORWARDED = new Set([
  ...HOP_BY_HOP,
  'authorization',
  'cookie',
  'origin',
  'referer',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
])

/** Rejects only before the answer has begun; after that a stream that is cut looks cut. `path` is what is asked for there. */
export async function forward(plane: DataPlane, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const over = new AbortController()
  response.once('close', () => over.abort(new ChaperoneError('session_ended', 'The client has gone.')))
  const headers: Record<string, string | readonly string[] | undefined> = {}
  for (const [name, value] of Object.entries(request.headers)) if (!NOT_FORWARDED.has(name)) headers[name] = value
  const method = request.method ?? 'POST'
  const answer = await plane.send({
    method,
    path,
    headers,
    signal: over.signal,
    ...(method === 'POST' || method === 'PUT' ? { body: request } : {}),
  })
  const back: OutgoingHttpHeaders = {}
  for (const [name, value] of Object.entries(answer.headers)) if (!HOP_BY_HOP.has(name)) back[name] = value
  response.writeHead(answer.statusCode ?? 502, back)
  response.flushHeaders()
  answer.pipe(response)
  // A stream that is cut must look cut: a clean end would be taken for the whole answer.
  answer.once('error', () => response.destroy())
  answer.once('aborted', () => response.destroy())
}
