import { createHmac, timingSafeEqual } from 'node:crypto'

/** RFC 6238 with what every authenticator app speaks: SHA-1, 30 seconds, 6 digits. */
const STEP_MS = 30_000
const DIGITS = 6
/** RFC 4226 section 4, R6: 160 bits. */
export const TOTP_SECRET_BYTES = 20

/** The step that a moment (ms since 1970) lies in. */
export const stepAt = (now: number): number => Math.floor(now / STEP_MS)

/** The code of a step: HOTP (RFC 4226 section 5.3) with the step as counter. */
export function totpCode(secret: Uint8Array, step: number, digits: number = DIGITS): string {
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(step))
  const mac = createHmac('sha1', secret).update(counter).digest()
  const offset = mac[mac.length - 1]! & 0x0f
  const number = (mac.readUInt32BE(offset) & 0x7fff_ffff) % 10 ** digits
  return String(number).padStart(digits, '0')
}

/**
 * The step whose code this is: the present one, or one to either side, for clocks that differ and people who type
 * slowly. Undefined when there is none. Always compares all three, in constant time.
 */
export function matchingStep(secret: Uint8Array, code: string, now: number): number | undefined {
  const given = Buffer.from(/^\d{6}$/.test(code) ? code : '------')
  let match: number | undefined
  for (let step = stepAt(now) - 1; step <= stepAt(now) + 1; step++) {
    if (timingSafeEqual(given, Buffer.from(totpCode(secret, step)))) match = step
  }
  return match
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** RFC 4648 section 6, without padding, as authenticator apps want it. */
export function toBase32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += ALPHABET[(value >>> bits) & 31]
    }
    value &= (1 << bits) - 1
  }
  return bits > 0 ? text + ALPHABET[(value << (5 - bits)) & 31] : text
}

/** Undefined for what is not base 32, for stray bits at its end and for lengths that no bytes have. Lower case and padding are read too. */
export function fromBase32(text: string): Uint8Array | undefined {
  const bytes: number[] = []
  let bits = 0
  let value = 0
  const unpadded = text.toUpperCase().replace(/=+$/, '')
  for (const letter of unpadded) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) return undefined
    value = (value << 5) | digit
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes.push((value >>> bits) & 0xff)
      value &= (1 << bits) - 1
    }
  }
  return bits >= 5 || value !== 0 ? undefined : Uint8Array.from(bytes)
}

/** The line behind the QR code (Key URI Format of Google Authenticator, which all apps read). */
export function otpauthUri(issuer: string, account: string, secret: Uint8Array): string {
  const label = `${encodeURIComponent(issuer)}:${encodeURIComponent(account)}`
  return `otpauth://totp/${label}?secret=${toBase32(secret)}&issuer=${encodeURIComponent(issuer)}&algorithm=SHA1&digits=${DIGITS}&period=${STEP_MS / 1000}`
}
