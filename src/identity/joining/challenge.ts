import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

/** From asking to showing: a signature and one request of ours, or one to a cloud's endpoint before it. */
const CHALLENGE_MS = 120_000

const STAMP_BYTES = 8
const RANDOM_BYTES = 16
const MAC_BYTES = 32

const macOf = (key: Uint8Array, head: Uint8Array) => createHmac('sha256', key).update(head).digest()

/**
 * A nonce that any node knows again without having kept it: the time, random bytes, and a mac of both. Nothing is stored for
 * a stranger who asks for a million of them; what was used is known by `used_proofs`.
 */
export function makeChallenge(key: Uint8Array, now: number): { readonly nonce: string; readonly notAfter: number } {
  const notAfter = now + CHALLENGE_MS
  const head = Buffer.alloc(STAMP_BYTES + RANDOM_BYTES)
  head.writeBigUInt64BE(BigInt(notAfter))
  randomBytes(RANDOM_BYTES).copy(head, STAMP_BYTES)
  return { nonce: Buffer.concat([head, macOf(key, head)]).toString('base64url'), notAfter }
}

/** Until when the nonce counts (ms since 1970); undefined for one that is over, or was not made here. */
export function readChallenge(key: Uint8Array, nonce: string, now: number): number | undefined {
  const bytes = Buffer.from(nonce, 'base64url')
  // One nonce has one spelling, or it could be used once in each.
  if (bytes.length !== STAMP_BYTES + RANDOM_BYTES + MAC_BYTES || bytes.toString('base64url') !== nonce) return undefined
  const head = bytes.subarray(0, STAMP_BYTES + RANDOM_BYTES)
  if (!timingSafeEqual(macOf(key, head), bytes.subarray(head.length))) return undefined
  const notAfter = Number(head.readBigUInt64BE())
  return notAfter > now ? notAfter : undefined
}
