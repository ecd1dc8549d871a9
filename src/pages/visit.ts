import type { Context } from 'hono'
import { parseStrict } from '../encoding/strict-json.ts'
import { ChaperoneError } from '../errors.ts'
import type { WebSession } from '../signin/browser.ts'
import type { Answer, Place } from '../signin/passkey.ts'
import type { Fields } from './forms.ts'

/** What the server knows of a request that none of its bytes say. */
export interface Env {
  readonly Bindings: { readonly remote: string }
}

/** One request of a browser. Only cookies say who it is: neither a certificate nor a bearer token counts here, and no cookie counts anywhere else. */
export interface Visit {
  readonly context: Context<Env>
  readonly request: Request
  readonly path: string
  /** the same with what stands behind the question mark */
  readonly whole: string
  /** of a browser that is signed in */
  readonly web?: WebSession
  /** the cookie of a known browser, unchecked */
  readonly browser: string | undefined
  /** where passkeys work; undefined under any other address of ours */
  readonly place: Place | undefined
}

export interface SignedInVisit extends Visit {
  readonly web: WebSession
}

/** `Chrome on Linux`, for a list that its owner reads. What a browser says of itself is nothing to rely on. */
export function browserName(userAgent: string | null): string {
  const first = (names: readonly (readonly [RegExp, string])[]) => names.find(([form]) => form.test(userAgent ?? ''))?.[1]
  const [browser, system] = [first(BROWSERS) ?? 'A browser', first(SYSTEMS)]
  return system === undefined ? browser : `${browser} on ${system}`
}

/** In this order: each also claims to be those below it. */
const BROWSERS = [
  [/Edg\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\//, 'Firefox'],
  [/Chrome\//, 'Chrome'],
  [/Safari\//, 'Safari'],
] as const
const SYSTEMS = [
  [/iPhone|iPad/, 'iOS'],
  [/Android/, 'Android'],
  [/Windows/, 'Windows'],
  [/Mac OS/, 'macOS'],
  [/CrOS/, 'ChromeOS'],
  [/Linux/, 'Linux'],
] as const

/** Where to go after signing in: one of our own pages, never an address. */
export function nextIn(text: string | undefined | null): string {
  return text &&
    /^\/(?:requests(?:\/req_[0-9a-z]{26})?|account|connect\/(?:[a-z0-9][a-z0-9._-]{0,62}|\.back\?[A-Za-z0-9%._~&=+:/-]{1,8192})|device(?:\?code=[A-Z]{4}-[A-Z]{4}(?:&with=[a-z0-9][a-z0-9._-]{0,62})?)?|oauth\/consent\/[A-Za-z0-9_-]{16,64})$/.test(
      text,
    )
    ? text
    : '/requests'
}

/** Six digits, as people type and apps show them. */
export const codeIn = (fields: Fields): string => (fields.get('code') ?? '').replace(/\s+/g, '')

/** A passkey's answer, from the hidden field that the script fills; undefined when a code was typed. Throws `malformed`. */
export function passkeyIn(fields: Fields): Answer | undefined {
  const text = fields.get('passkey')
  if (text === undefined || text === '') return undefined
  const { value } = parseStrict(Buffer.from(text), { maxBytes: 32 * 1024 })
  const { challenge, response } = (value ?? {}) as { challenge?: unknown; response?: unknown }
  if (typeof challenge !== 'string') throw new ChaperoneError('malformed', 'The answer of the passkey cannot be read.')
  return { challenge, response }
}

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** Where the passkeys of this page work. Throws `unsupported`. */
export function placeOf({ place }: Visit): Place {
  if (!place) throw new ChaperoneError('unsupported', 'Passkeys do not work under this address.', { fix: 'Use the host name of this server.' })
  return place
}
