import { TOLERANCE_S } from '../../identity/joining/issuer-keys.ts'

/** It is made for one request. One that is good for a day is a key that lies about, and is remembered for as long. */
const LONGEST_LIFE_S = 3_600

/**
 * What a client's own signature (`private_key_jwt`) must say beyond what the library looks at: why it is refused, or undefined.
 *
 * For this server alone, by its issuer: whoever runs another one, and names our token endpoint in its metadata, would be handed a
 * signature that is good here (the audience injection of 2025, draft-ietf-oauth-rfc7523bis). And nothing that the key has signed for
 * another purpose (RFC 8725 section 3.11). Pure. `now`: ms since 1970.
 */
export function faultOfClientProof(
  { aud, exp, iat }: Readonly<Record<string, unknown>>,
  { typ }: Readonly<Record<string, unknown>>,
  { issuer, now }: { readonly issuer: string; readonly now: number },
): string | undefined {
  if ((Array.isArray(aud) && aud.length === 1 ? aud[0] : aud) !== issuer) return 'its audience must be the issuer, and nobody else'
  if (typ !== undefined && !/^(?:application\/)?(?:jwt|client-authentication\+jwt)$/i.test(String(typ))) return 'it calls itself something else'
  const seconds = now / 1000
  if (typeof exp !== 'number' || exp > seconds + LONGEST_LIFE_S + TOLERANCE_S) return 'it lives for more than an hour'
  if (iat !== undefined && (typeof iat !== 'number' || iat > seconds + TOLERANCE_S)) return 'it was made in the future'
  return undefined
}
