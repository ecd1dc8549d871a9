import { createHash } from 'node:crypto'
import type { Masker } from '../../audit/mask.ts'
import type { Shown } from '../types.ts'
import { assertHidesValues, assertHoldsNoSecret } from './hiding.ts'
import type { CallWish } from './types.ts'

/** Of all that is shown of one call together; a person does not read more, and a row must not be without a bound (rule 11). */
export const MOST_SHOWN_BYTES = 64 * 1024

/**
 * What is stored of a call for its approver: without the secrets that Chaperone knows or finds, and visibly cut where it is too
 * long. Throws `approval_unavailable` where that would hide more than a value.
 */
export function storedOf(shown: readonly Shown[], masker: Pick<Masker, 'text' | 'looks' | 'holds'>): CallWish['shown'] {
  const whole = shown.map(({ title, text, form }) => {
    if (form === 'exact') {
      assertHoldsNoSecret(text, masker)
      return { title, form, text, bytes: Buffer.from(text) }
    }
    const masked = masker.text(text).value
    if (masked !== text) assertHidesValues({ title, text, form }, masker.looks(text))
    return { title, form, text: masked, bytes: Buffer.from(masked) }
  })
  let left = MOST_SHOWN_BYTES
  const room = new Map<(typeof whole)[number], number>()
  // The longest is cut first: behind 64 KiB of comment nobody would read what the statement writes.
  for (const part of whole.toSorted((a, b) => a.bytes.length - b.bytes.length)) {
    room.set(part, left)
    left -= Math.min(left, part.bytes.length)
  }
  return whole.map((part) => {
    const { title, form, text, bytes } = part
    const most = room.get(part)!
    if (bytes.length <= most) return { title, form, text }
    const cut = { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
    return { title, form, text: bytes.subarray(0, endOfLetter(bytes, most)).toString(), cut }
  })
}

/** The last place at or before `at` that does not cut a letter of UTF-8 in two. */
function endOfLetter(bytes: Uint8Array, at: number): number {
  let end = at
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return end
}
