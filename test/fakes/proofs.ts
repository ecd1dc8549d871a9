import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose'

/** How strictly one server checks proofs; a test changes it while it runs. */
export interface ProofKnobs {
  /** wanted in every proof; undefined: none */
  nonce: string | undefined
  /** a new nonce comes with every answer, and only the newest counts */
  rotate: boolean
  /** how far its clock is ahead of the world's */
  aheadMs: number
}

/** Checks proofs as RFC 9449 section 4.3 says it, point by point. Nothing here is shared with what makes them. */
export class ProofChecker {
  readonly knobs: ProofKnobs = { nonce: undefined, rotate: false, aheadMs: 0 }
  /** what was wrong, in order */
  readonly complaints: string[] = []
  /** the proofs that were accepted */
  readonly accepted: string[] = []
  readonly #jtis = new Set<string>()
  #count = 0

  /** The thumbprint of the key, or the error that the server answers with. */
  async check(
    request: IncomingMessage,
    response: ServerResponse,
    url: string,
    token?: { readonly value: string; readonly jkt: string },
  ): Promise<{ readonly jkt: string } | { readonly error: 'use_dpop_nonce' | 'invalid_dpop_proof' }> {
    const { knobs } = this
    const wanted = knobs.nonce
    response.setHeader('date', new Date(Date.now() + knobs.aheadMs).toUTCString())
    if (knobs.rotate) knobs.nonce = `nonce-${++this.#count}`
    if (knobs.nonce !== undefined) response.setHeader('dpop-nonce', knobs.nonce)
    const wrong = (why: string) => {
      this.complaints.push(why)
      return { error: 'invalid_dpop_proof' as const }
    }
    const given = request.headersDistinct.dpop ?? []
    if (given.length !== 1) return wrong(`${given.length} proofs`)
    const verified = await jwtVerify(given[0]!, EmbeddedJWK, { algorithms: ['ES256'], typ: 'dpop+jwt', currentDate: new Date(0) }).catch(
      () => undefined,
    )
    if (!verified) return wrong('no valid signature')
    const { payload, protectedHeader } = verified
    const { jwk } = protectedHeader
    if (Object.keys(jwk ?? {}).join() !== 'kty,crv,x,y') return wrong('the key is not just a public key')
    if (payload.htm !== request.method) return wrong('htm')
    if (payload.htu !== url) return wrong('htu')
    if (typeof payload.iat !== 'number' || Math.abs(payload.iat * 1000 - Date.now() - knobs.aheadMs) > 60_000) return wrong('iat')
    const jkt = await calculateJwkThumbprint(jwk!)
    if (token === undefined ? payload.ath !== undefined : payload.ath !== createHash('sha256').update(token.value).digest('base64url'))
      return wrong('ath')
    if (token !== undefined && token.jkt !== jkt) return wrong('another key')
    if (typeof payload.jti !== 'string' || this.#jtis.has(payload.jti)) return wrong('jti')
    if (payload.nonce !== wanted) {
      this.complaints.push('nonce')
      return wanted === undefined ? { error: 'invalid_dpop_proof' } : { error: 'use_dpop_nonce' }
    }
    this.#jtis.add(payload.jti)
    this.accepted.push(given[0]!)
    return { jkt }
  }
}
