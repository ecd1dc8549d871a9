import { createHash, type KeyObject } from 'node:crypto'
import { compactVerify, decodeProtectedHeader, errors } from 'jose'
import { z } from 'zod'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ALGORITHMS } from './issuer-keys.ts'
import type { JoinContext } from './method.ts'
import { JoinRefused, unproven } from './refused.ts'

/** RFC 8725 section 3.11: what is signed to join is good for nothing else, and nothing else is good for joining. */
export const PROOF_TYPE = 'chaperone-join+jwt'

/** What whoever holds a key signs in order to join: for this server, at this moment, and for one key of a certificate. */
export const statement = z.strictObject({
  /** from the line that the client was given, not from the server */
  aud: z.string().max(600),
  /** sha256 hex of the authority by which the client knows this server: what was signed for one server opens no other */
  ca: z.string(),
  /** name of the document */
  join: z.string().max(64),
  nonce: z.string(),
  /** base64url of the sha256 of the key that the certificate will be for: whoever overhears the proof cannot use it for his own */
  key: z.string(),
  /** of a bound key: the count as its holder knows it */
  joins: z.int().nonnegative().optional(),
})
export type Statement = z.infer<typeof statement>

export const signedText = z
  .string()
  .min(1)
  .max(48 * 1024)

/** Checks what was signed, and that it was signed for this. Returns it with the nonce, which counts once. Throws JoinRefused. */
export async function verifyStatement(
  signed: string,
  key: KeyObject,
  context: JoinContext,
  method: string,
): Promise<{ readonly said: Statement; readonly once: { readonly key: string; readonly until: number } }> {
  const refused = (told: string, why: string) => new JoinRefused(told, { why, document: context.document, method })
  const stranger = (why: string, cause?: unknown) => unproven(why, { document: context.document, method }, cause)
  let said: Statement
  try {
    const { typ, b64 } = decodeProtectedHeader(signed)
    if (typ !== PROOF_TYPE || b64 !== undefined) throw stranger('what was signed is no proof for joining')
    const { payload } = await compactVerify(signed, key, { algorithms: [...ALGORITHMS] })
    said = statement.parse(parseStrict(payload).value)
  } catch (error) {
    if (error instanceof JoinRefused) throw error
    if (error instanceof errors.JWSSignatureVerificationFailed) throw stranger('the signature does not hold', error)
    throw stranger(`what was signed cannot be read: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  if (said.aud !== context.audience) throw refused('it was signed for another server.', `aud ${said.aud}`)
  if (!(await context.servers()).includes(said.ca)) throw refused('it was signed for another server.', 'another authority')
  if (said.join !== context.document) throw refused('it was signed for another way to join.', `join ${said.join}`)
  if (said.key !== createHash('sha256').update(context.spki).digest('base64url')) throw refused('it was signed for another key.', 'another key')
  const until = context.challenge(said.nonce)
  if (until === undefined) throw refused('it was signed too long ago, or not for this server.', 'nonce')
  return { said, once: { key: `nonce ${said.nonce}`, until } }
}
