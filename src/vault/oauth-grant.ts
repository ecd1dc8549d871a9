import type { OAuthTokens } from '@modelcontextprotocol/client'
import { ChaperoneError } from '../errors.ts'
import { scopesOf } from './challenge.ts'
import type { HeldLogin } from './oauth-rows.ts'

type Grant = Pick<HeldLogin, 'access' | 'refresh' | 'expiresAt' | 'obtainedAt' | 'granted'>

/** A life of more than this is a mistake or an attempt at one; the server will say when it is over. */
const LONGEST_LIFE_S = 365 * 24 * 3600

/** What a token answer gives. Throws `upstream_unavailable` for a token that cannot be sent. */
export function grantOf(tokens: OAuthTokens, asked: string | undefined, now: number): Grant {
  // Visible ASCII (RFC 6750 section 2.1); anything else would be a header of the server's making.
  if (!/^[\x21-\x7e]{1,16384}$/.test(tokens.access_token) || tokens.token_type.toLowerCase() !== 'bearer')
    throw new ChaperoneError('upstream_unavailable', 'The authorization server gave a token that is no bearer token.')
  const life = tokens.expires_in
  return {
    access: tokens.access_token,
    refresh: tokens.refresh_token,
    obtainedAt: now,
    expiresAt: life === undefined || !(life > 0) || life > LONGEST_LIFE_S ? undefined : now + life * 1000,
    granted: tokens.scope === undefined || tokens.scope === asked ? undefined : scopesOf(tokens.scope).join(' '),
  }
}
