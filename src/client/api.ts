import { type ClientRequest, type IncomingMessage, request as plainRequest } from 'node:http'
import { request } from 'node:https'
import { isIP } from 'node:net'
import type { ErrorBody } from '../api/contract.ts'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError, REASONS, type ReasonCode } from '../errors.ts'
import { agentFor } from '../network/tunnel.ts'
import { ApiError } from './api-error.ts'
import { EventStreamReader } from './event-stream.ts'
import { unreachable } from './first-contact.ts'
import { splitAddress } from './profile.ts'

export interface ApiOptions {
  readonly address: string
  /** PEM of the server authorities: the only ones believed */
  readonly authorities: string
  /** PEM; absent before sign-in */
  readonly identity?: Identification
  /** Gives a second factor when the server asks for one; undefined when there is nobody to ask. */
  readonly factor?: () => Promise<string | undefined>
  /** Waits for the yes of somebody else that a rule wants; false when nobody waits here. */
  readonly approval?: (request: NonNullable<ApiError['request']>) => Promise<boolean>
  readonly timeoutMs?: number
  readonly clock?: Clock
  /** Inside a run: its unix socket, behind which the runner has the certificate. Then neither address nor authorities are used. */
  readonly socket?: string
}

export interface Api {
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown, options?: { readonly timeoutMs?: number }): Promise<T>
  /** A `text/event-stream`: the JSON of each event, until the server ends it or `signal` fires. Throws the reason when the session it rests on is cut. `lastEvent`: where an earlier one broke off. */
  events<T>(path: string, signal?: AbortSignal, lastEvent?: string): AsyncGenerator<T>
  /** Server's clock minus ours in ms, from the last answer's Date header (whole seconds); undefined before the first answer. */
  readonly skewMs: number | undefined
  close(): void
}

const TIMEOUT_MS = 30_000
/** The largest answer is a page of records; anything near this is a fault. */
const BIGGEST_ANSWER = 32 * 1024 * 1024

/** PEM of who we are. */
export interface Identification {
  readonly key: string
  readonly certificate: string
}

/** TLS options of every connection to Chaperone. */
export function tlsOptions(host: string, authorities: string, identity?: Identification) {
  return {
    ca: authorities,
    ...(identity ? { key: identity.key, cert: identity.certificate } : {}),
    ...(isIP(host) ? {} : { servername: host }),
    minVersion: 'TLSv1.3' as const,
    rejectUnauthorized: true,
  }
}

export function openApi(options: ApiOptions): Api {
  const { host, port } = splitAddress(options.address)
  // Sessions are not kept: a resumed one would show an old certificate.
  const tls = tlsOptions(host, options.authorities, options.identity)
  const agent = agentFor({ host, port, secure: true }, { keepAlive: true, maxCachedSessions: 0, maxSockets: 8, ...tls })
  const clock = options.clock ?? systemClock
  let skewMs: number | undefined

  const send = (method: string, path: string, body: unknown, accept: string, timeoutMs: number, signal?: AbortSignal, lastEvent?: string) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
      const headers: Record<string, string | number> = { accept, 'user-agent': 'chaperone-cli' }
      if (lastEvent !== undefined) headers['last-event-id'] = lastEvent
      if (payload) Object.assign(headers, { 'content-type': 'application/json', 'content-length': payload.length })
      const what = { method, path, headers, timeout: timeoutMs, ...(signal ? { signal } : {}) }
      const take = (answer: IncomingMessage) => {
        const date = Date.parse(answer.headers.date ?? '')
        if (Number.isFinite(date)) skewMs = date - clock.now()
        resolve(answer)
      }
      const { socket } = options
      const asked: ClientRequest =
        socket === undefined ? request({ agent, host, port, ...what }, take) : plainRequest({ socketPath: socket, ...what }, take)
      asked.on('timeout', () => asked.destroy(new ChaperoneError('upstream_timeout', `Chaperone at ${options.address} did not answer in time.`)))
      asked.on('error', (error) => reject(connectionError(options.address, error)))
      asked.end(payload)
    })

  const once = async <T>(method: string, path: string, body: unknown, timeoutMs: number): Promise<T> => {
    const answer = await send(method, path, body, 'application/json', timeoutMs)
    const status = answer.statusCode ?? 0
    const text = await readAll(answer, options.address)
    if (status >= 200 && status < 300) return (text === '' ? {} : parse(text)) as T
    throw errorOf(status, text)
  }

  /** Whether what the server wants besides is there now. */
  const provided = async (error: ApiError, timeoutMs: number): Promise<boolean> => {
    if (error.code === 'approval_required' && error.request) return (await options.approval?.(error.request)) === true
    const code = error.code === 'factor_required' ? await options.factor?.() : undefined
    if (code === undefined) return false
    await once('POST', '/v1/factor', { code }, timeoutMs)
    return true
  }

  return {
    get skewMs() {
      return skewMs
    },
    async call<T>(method: string, path: string, body?: unknown, more: { readonly timeoutMs?: number } = {}): Promise<T> {
      const timeoutMs = more.timeoutMs ?? options.timeoutMs ?? TIMEOUT_MS
      // A factor, a yes, and where that took its time another factor; what is wanted twice running is not to be had.
      for (let before: string | undefined; ; ) {
        try {
          return await once<T>(method, path, body, timeoutMs)
        } catch (error) {
          if (!(error instanceof ApiError) || error.code === before || !(await provided(error, timeoutMs))) throw error
          before = error.code
        }
      }
    },
    async *events<T>(path: string, signal?: AbortSignal, lastEvent?: string): AsyncGenerator<T> {
      const answer = await send('GET', path, undefined, 'text/event-stream', 0, signal, lastEvent)
      if (answer.statusCode !== 200) throw errorOf(answer.statusCode ?? 0, await readAll(answer, options.address))
      const reader = new EventStreamReader()
      try {
        for await (const chunk of answer) {
          for (const { data, event } of reader.push(chunk as Buffer)) {
            if (event === 'over') throw errorOf(answer.statusCode, data)
            if (event === 'behind')
              throw new ChaperoneError('too_slow', 'This was not read as fast as it came, and some of it was left out.', { fix: 'Start it again.' })
            if (data !== '') yield parse(data) as T
          }
        }
      } catch (error) {
        if (error instanceof ChaperoneError) throw error
        if (!signal?.aborted) throw connectionError(options.address, error as Error)
      } finally {
        answer.destroy()
      }
    },
    close: () => agent.destroy(),
  }
}

async function readAll(answer: IncomingMessage, address: string): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of answer) {
      size += (chunk as Buffer).length
      if (size > BIGGEST_ANSWER) throw new ChaperoneError('too_large', 'The answer of the server is over its limit.')
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    throw connectionError(address, error as Error)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ChaperoneError('malformed', 'The server gave an answer that is not JSON.', { cause: error })
  }
}

function errorOf(status: number, text: string): ChaperoneError {
  let body: ErrorBody | undefined
  try {
    body = JSON.parse(text) as ErrorBody
  } catch {
    // Something between us and the server answered; the status is all there is to say.
  }
  const code = body?.error?.code
  if (code === undefined || !Object.hasOwn(REASONS, code)) {
    const nearest = (Object.keys(REASONS) as ReasonCode[]).find((name) => REASONS[name].http === status) ?? 'internal'
    return new ChaperoneError(nearest, body?.error?.message ?? `The server answered with status ${status}.`, {
      fix: 'The server may be newer than this command, or something between answered: compare `chaperone version` on both.',
    })
  }
  return new ApiError(status, body as ErrorBody)
}

/** A proxy that opens TLS shows a certificate of its own: to us it looks like anybody else who would. */
export const BETWEEN =
  'Somebody stands between you and the server. If it is a proxy of your company that opens TLS, client certificates cannot pass it: ask for an exception for this address, or use the web address of the server with a bearer token (docs/company-network.md). `chaperone doctor` says whose certificate it is.'

/** TLS and socket errors in the words of this product; a person can act on "expired", not on "alert number 45". */
export function connectionError(address: string, error: Error): ChaperoneError {
  if (error instanceof ChaperoneError) return error
  const code = (error as NodeJS.ErrnoException).code ?? ''
  const text = `${code} ${error.message}`
  const more = { cause: error, detail: text }
  if (/CERTIFICATE_EXPIRED|certificate expired|CERT_HAS_EXPIRED/i.test(text)) {
    return new ChaperoneError('credential_expired', 'A certificate on the way to the server has expired.', {
      ...more,
      fix: 'Sign in again with `chaperone login`; if that does not help, check the clocks with `chaperone doctor`.',
    })
  }
  if (/ERR_TLS_CERT_ALTNAME_INVALID/.test(text)) {
    return new ChaperoneError('credential_invalid', `The certificate of the server is not for ${address}.`, {
      ...more,
      fix: 'Start the server with --public-host and the name that clients use.',
    })
  }
  if (/SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|ERR_TLS_CERT|CERT_SIGNATURE_FAILURE/.test(text)) {
    return new ChaperoneError('credential_invalid', `The server at ${address} is not the one you signed in to.`, {
      ...more,
      fix: BETWEEN,
    })
  }
  if (/ALERT|SSL_|alert number|EPROTO/i.test(text)) {
    return new ChaperoneError('unauthenticated', 'The server refused this certificate.', { ...more, fix: 'Sign in again with `chaperone login`.' })
  }
  return unreachable(address, error)
}
