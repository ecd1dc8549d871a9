import { PROOF_ALGORITHM } from './dpop.ts'

/** What a server says of the token that it wants (RFC 6750 section 3, RFC 9728 section 5.1). All of it is untrusted text. */
export interface Challenge {
  /** where its protected resource metadata lies */
  readonly metadata?: string
  /** scopes that the request needs, separated by one space */
  readonly scope?: string
  /** `invalid_token`, `insufficient_scope` ... */
  readonly error?: string
  /** it takes tokens that are bound to a key, with proofs that we can make (RFC 9449 section 7.1) */
  readonly dpop?: true
}

/** One word, `name=token` or `name="quoted"`, and what separates it from the next. */
const PART = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s",]+))?[\s,]*/y
const LONGEST = 16 * 1024

/**
 * What the Bearer and DPoP challenges of a `WWW-Authenticate` header say together; undefined when there is neither. Of two
 * challenges of one kind the first counts. What the DPoP one says goes before: a server with both prefers it (RFC 9449 section 7.1).
 */
export function readChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined || header.length > LONGEST) return undefined
  const kinds = new Map<string, Map<string, string>>()
  let inside: Map<string, string> | undefined
  PART.lastIndex = header.length - header.trimStart().length
  for (let part = PART.exec(header); part; part = PART.exec(header)) {
    const [, name = '', value] = part
    const key = name.toLowerCase()
    if (value === undefined) {
      inside = kinds.has(key) ? undefined : new Map()
      if (inside) kinds.set(key, inside)
    } else if (inside && !inside.has(key)) {
      inside.set(key, value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/gs, '$1') : value)
    }
  }
  const [dpop, bearer] = [kinds.get('dpop'), kinds.get('bearer')]
  if (!dpop && !bearer) return undefined
  const said = (name: string) => dpop?.get(name) ?? bearer?.get(name)
  const metadata = said('resource_metadata')
  const scope = scopesOf(said('scope')).join(' ')
  const error = said('error')
  const algorithms = dpop?.get('algs')
  return {
    ...(metadata === undefined || metadata === '' ? {} : { metadata }),
    ...(scope === '' ? {} : { scope }),
    ...(error !== undefined && /^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error) ? { error } : {}),
    ...(dpop && (algorithms === undefined || algorithms.split(' ').includes(PROOF_ALGORITHM)) ? { dpop: true as const } : {}),
  }
}

const MOST_SCOPES = 100

/** The scopes of a list, each once; what RFC 6749 section 3.3 does not allow in a scope is none. */
export function scopesOf(text: string | undefined): readonly string[] {
  const scopes = (text ?? '').split(' ').filter((scope) => /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/.test(scope))
  return [...new Set(scopes)].slice(0, MOST_SCOPES)
}
