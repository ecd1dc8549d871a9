/** What a server says of the token that it wants (RFC 6750 section 3, RFC 9728 section 5.1). All of it is untrusted text. */
export interface Challenge {
  /** where its protected resource metadata lies */
  readonly metadata?: string
  /** scopes that the request needs, separated by one space */
  readonly scope?: string
  /** `invalid_token`, `insufficient_scope` ... */
  readonly error?: string
}

/** One word, `name=token` or `name="quoted"`, and what separates it from the next. */
const PART = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s",]+))?[\s,]*/y
const LONGEST = 16 * 1024

/** The Bearer challenge of a `WWW-Authenticate` header, which may hold several; undefined when there is none. */
export function readChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined || header.length > LONGEST) return undefined
  let bearer: Map<string, string> | undefined
  let inside = false
  PART.lastIndex = header.length - header.trimStart().length
  for (let part = PART.exec(header); part; part = PART.exec(header)) {
    const [, name = '', value] = part
    if (value === undefined) {
      inside = bearer === undefined && name.toLowerCase() === 'bearer'
      if (inside) bearer = new Map()
    } else if (inside && !bearer!.has(name.toLowerCase())) {
      bearer!.set(name.toLowerCase(), value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/gs, '$1') : value)
    }
  }
  if (!bearer) return undefined
  const metadata = bearer.get('resource_metadata')
  const scope = scopesOf(bearer.get('scope')).join(' ')
  const error = bearer.get('error')
  return {
    ...(metadata === undefined || metadata === '' ? {} : { metadata }),
    ...(scope === '' ? {} : { scope }),
    ...(error !== undefined && /^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error) ? { error } : {}),
  }
}

const MOST_SCOPES = 100

/** The scopes of a list, each once; what RFC 6749 section 3.3 does not allow in a scope is none. */
export function scopesOf(text: string | undefined): readonly string[] {
  const scopes = (text ?? '').split(' ').filter((scope) => /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/.test(scope))
  return [...new Set(scopes)].slice(0, MOST_SCOPES)
}
