import type { Html } from './html.ts'

/**
 * What every answer carries. The policy allows nothing but our own stylesheet, our own script and forms to ourselves: a text that got
 * past the escaping would still run nothing, load nothing and send nothing.
 *
 * `same-origin` and not `no-referrer`: with the latter a browser sends `Origin: null` with our own forms (Fetch, 3.1), and then they
 * could not be told from foreign ones. To other sites both send nothing.
 */
const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()',
} as const

/** Browsers keep this for the whole host, every port: on a developer's machine it would break what else runs there. */
const STRICT_TRANSPORT = 'max-age=31536000'

export interface AnswerOptions {
  readonly status?: number
  readonly cookies?: readonly string[]
  readonly type?: string
  readonly location?: string
  readonly cache?: string
}

/** `host`: the host name that these are the pages of; undefined when it has none. */
export function makeAnswers(host: () => string | undefined) {
  const answer = (
    body: string | ReadableStream<Uint8Array> | null,
    { status = 200, cookies = [], type, location, cache }: AnswerOptions,
  ): Response => {
    const headers = new Headers(HEADERS)
    if ((host() ?? 'localhost') !== 'localhost') headers.set('Strict-Transport-Security', STRICT_TRANSPORT)
    if (type !== undefined) headers.set('Content-Type', type)
    if (location !== undefined) headers.set('Location', location)
    if (cache !== undefined) headers.set('Cache-Control', cache)
    for (const cookie of cookies) headers.append('Set-Cookie', cookie)
    return new Response(body, { status, headers })
  }
  return {
    page: (page: Html, more: AnswerOptions = {}) => answer(`<!doctype html>\n${page}`, { type: 'text/html; charset=utf-8', ...more }),
    /** 303: what was posted is not posted again. */
    goTo: (location: string, more: AnswerOptions = {}) => answer(null, { status: 303, location, ...more }),
    json: (value: unknown, more: AnswerOptions = {}) => answer(JSON.stringify(value), { type: 'application/json', ...more }),
    /** Nothing, and it may be asked for again tomorrow. */
    none: () => answer(null, { status: 204, cache: 'public, max-age=86400' }),
    stream: (body: ReadableStream<Uint8Array>) => answer(body, { type: 'text/event-stream' }),
    /** Named after its content, so it may be kept for ever. */
    asset: (text: string, type: string) => answer(text, { type, cache: 'public, max-age=31536000, immutable' }),
  }
}
