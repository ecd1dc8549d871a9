import { ChaperoneError } from '../errors.ts'

/**
 * Names are what people type and what stands in the SPIFFE ID, so they are spelled in exactly one way: lower case, no
 * percent-encoding, no empty or dotted segment (SPIFFE-ID section 2.2). `boris/claude-code` is a client of boris.
 */
const SEGMENT = '[a-z0-9][a-z0-9._-]{0,62}'
const USER = new RegExp(`^${SEGMENT}$`)
const AGENT = new RegExp(`^${SEGMENT}(?:/${SEGMENT})?$`)

const SPELLING = 'Lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit.'

/** Where a name or an id is taken (locks, searches), a name that looks like somebody's id would be taken for him. */
const LIKE_AN_ID = /^[a-z]{3}_[0-9a-z]{26}$/

export function isName(kind: 'user' | 'agent' | 'node', name: string): boolean {
  return (kind === 'agent' ? AGENT : USER).test(name) && !LIKE_AN_ID.test(name)
}

/** Throws `usage` unless the name may be one of this kind, and one with a `/` begins with its owner's. */
export function assertName(kind: 'user' | 'agent' | 'node', name: string, ownerName?: string): void {
  if (!isName(kind, name))
    throw new ChaperoneError('usage', `${JSON.stringify(name.slice(0, 130))} cannot be the name of a ${kind}.`, { fix: SPELLING })
  const slash = name.indexOf('/')
  if (slash >= 0 && name.slice(0, slash) !== ownerName) {
    throw new ChaperoneError('usage', `Only an agent of ${name.slice(0, slash)} can be named ${name}.`, {
      fix: 'Name the owner before the slash, or leave the slash out.',
    })
  }
}

/** `spiffe://<trust domain>/<kind>/<name>` */
export function spiffeId(trustDomain: string, kind: 'user' | 'agent' | 'node', name: string): string {
  return `spiffe://${trustDomain}/${kind}/${name}`
}
