import type { OAuthTokens } from '@modelcontextprotocol/client'
import type { JWK } from 'jose'
import { ChaperoneError } from '../errors.ts'
import { scopesOf } from './challenge.ts'
import type { Binding } from './oauth-discovery.ts'
import type { HeldLogin } from './oauth-rows.ts'

type Grant = Pick<HeldLogin, 'access' | 'refresh' | 'expiresAt' | 'obtainedAt' | 'granted' | 'key'>

/** A life of more than this is a mistake or an attempt at one; the server will say when it is over. */
const LONGEST_LIFE_S = 365 * 24 * 3600

/** Tokens that are bound to a key were wanted, and others given: what is stolen of those can be used. */
export class NotBound extends ChaperoneError {
  constructor() {
    super('upstream_unavailable', 'The authorization server gave a token that is not bound to a key, where one must be.')
    this.name = 'NotBound'
  }
}

/** The key with which a token is shown, from its `token_type`; undefined: it is a bearer token. Throws `upstream_unavailable`. */
export function bound<Key>(type: string, key: Key | undefined, binding: Binding): Key | undefined {
  if (type.toLowerCase() === 'dpop' && key !== undefined) return key
  if (type.toLowerCase() !== 'bearer')
    throw new ChaperoneError('upstream_unavailable', 'The authorization server gave a token of a kind that Chaperone does not know.')
  if (binding === 'required') throw new NotBound()
  return undefined
}

/** What a token answer gives. Throws `upstream_unavailable` for a token that cannot be sent. */
export function grantOf(
  tokens: OAuthTokens,
  {
    asked,
    now,
    key,
    binding,
  }: { readonly asked: string | undefined; readonly now: number; readonly key: JWK | undefined; readonly binding: Binding },
): Grant {
  // Visible ASCII (RFC 6750 section 2.1); anything else would be a header of the server's making.
  if (!/^[\x21-\x7e]{1,16384}$/.test(tokens.access_token))
    throw new ChaperoneError('upstream_unavailable', 'The authorization server gave a token that no header can hold.')
  const life = tokens.expires_in
  return {
    access: tokens.access_token,
    refresh: tokens.refresh_token,
    obtainedAt: now,
    expiresAt: life === undefined || !(life > 0) || life > LONGEST_LIFE_S ? undefined : now + life * 1000,
    key: bound(tokens.token_type, key, binding),
    granted: tokens.scope === undefined || tokens.scope === asked ? undefined : scopesOf(tokens.scope).join(' '),
  }
}

/**
 * The parts of a grant that the record masks. The authorization server chooses them, and what is masked is masked in every
 * record: a token that is a word, such as `tools/call`, would blot out what it wants to hide. So only what looks like a
 * random secret is.
 */
export const masked = ({ access, refresh }: Pick<Grant, 'access' | 'refresh'>): string[] =>
  [access, refresh].filter((token): token is string => token !== undefined && looksRandom(token))

const looksRandom = (token: string) => token.length >= 20 && /[0-9]/.test(token) && /[A-Za-z]/.test(token) && !/^[a-z]{3}_[0-9a-z]{26}$/i.test(token)
