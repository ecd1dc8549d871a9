import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { urlToHttpOptions } from 'node:url'
import { ChaperoneError } from '../errors.ts'
import { proxyFor } from '../network/proxy.ts'
import { agentFor } from '../network/tunnel.ts'
import { assertWritten, checkedLookup, faultOf, type Resolve, trust } from './reach.ts'
import type { Attempt } from './types.ts'

export interface Post {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly ca?: string | undefined
  /** Plain text is allowed, to this machine alone. */
  readonly insecure?: boolean | undefined
  readonly resolve: Resolve
  /** Fires when the time is over; its reason is a ChaperoneError. */
  readonly signal: AbortSignal
}

const LONGEST_WISH_MS = 3_600_000

/**
 * One POST. The status alone counts: nothing behind it is read, so an answer without end, of another length or with
 * something to follow costs nothing. No redirect is followed: it would lead past every check of the address. Never rejects.
 */
export async function post({ url: written, headers, body, ca, insecure, resolve, signal }: Post): Promise<Attempt> {
  try {
    const url = URL.parse(written)
    if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) return { ok: false, error: 'the address is no http or https URL' }
    if (url.username !== '' || url.password !== '') return { ok: false, error: 'refused: a password stands in the address' }
    const plain = url.protocol === 'http:'
    if (plain && !insecure) return { ok: false, error: 'refused: the address is not https' }
    assertWritten(url.hostname.replace(/^\[|\]$/g, ''), plain)
    signal.throwIfAborted()

    const to = { host: url.hostname, port: Number(url.port) || (plain ? 80 : 443), secure: !plain }
    // The company's proxy looks names up itself, and decides what it leads to. It would read plain text, which leaves this machine for nobody.
    const proxied = !plain && proxyFor(to, process.env) !== undefined
    const { promise, resolve: answered, reject } = Promise.withResolvers<Attempt>()
    const request = (plain ? http : https).request({
      ...urlToHttpOptions(url),
      method: 'POST',
      ...(proxied ? { agent: agentFor(to, { ...trust(ca), minVersion: 'TLSv1.2' }) } : { agent: false, lookup: checkedLookup(resolve, plain) }),
      maxHeaderSize: 16 * 1024,
      signal,
      headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), 'user-agent': 'Chaperone' },
      ...(plain ? {} : { ...trust(ca), minVersion: 'TLSv1.2' as const }),
    })
    request.once('response', (incoming) => {
      answered(attemptOf(incoming))
      incoming.on('error', () => {}) // what comes behind the status is not waited for
      request.destroy()
    })
    request.on('error', reject)
    // Closed without an answer and without an error: 101 to what asked for no upgrade does that.
    request.once('close', () => reject(new ChaperoneError('upstream_unavailable', 'closed without an answer')))
    request.end(body)
    return await promise
  } catch (error) {
    return { ok: false, error: faultOf(signal.aborted ? signal.reason : error) }
  }
}

function attemptOf({ statusCode = 0, headers }: IncomingMessage): Attempt {
  if (statusCode >= 200 && statusCode < 300) return { ok: true }
  if (statusCode >= 300 && statusCode < 400) return { ok: false, error: `answered ${statusCode}; redirects are not followed` }
  const seconds = /^\d{1,6}$/.test(headers['retry-after'] ?? '') ? Number(headers['retry-after']) : 0
  return {
    ok: false,
    error: `answered ${statusCode}`,
    // Standard Webhooks: this receiver is gone, and wants no more of it.
    ...(statusCode === 410 ? { final: true } : {}),
    ...(seconds > 0 ? { retryAfterMs: Math.min(seconds * 1000, LONGEST_WISH_MS) } : {}),
  }
}
