import { createHmac } from 'node:crypto'
import type { MaskForm } from './types.ts'

/** text, varchar, bpchar and name: their bytes are the characters, in the text format as in the binary one. */
const TEXTS: ReadonlySet<number> = new Set([25, 1043, 1042, 19])

const FIXED = Buffer.from('***')
/** 128 bits as hex digits: two values of one database never meet. */
const HASH_DIGITS = 32

/** What a hash is made with: equal values of one resource give equal hashes, and nobody without the key can try values. */
export interface HashKey {
  readonly key: Uint8Array
  /** id of the resource: what is learned in one database says nothing of another */
  readonly of: string
}

/** The value that goes to the client; null is NULL. Of a type that is no text nothing can be shown in part, so it is NULL in every form. */
export function hideValue(form: MaskForm, value: Buffer, type: number, hash: HashKey): Buffer | null {
  if (!TEXTS.has(type)) return null
  switch (form) {
    case 'fixed':
      return FIXED
    case 'last4':
      return lastCharacters(value)
    case 'hash':
      return Buffer.from(digest(value, hash))
    default:
      return null
  }
}

/** The last four characters, and never more than half of the value; a `*` for each of the others. */
function lastCharacters(value: Buffer): Buffer {
  const characters = [...value.toString('utf8')]
  const shown = Math.min(4, Math.floor(characters.length / 2))
  return Buffer.from('*'.repeat(characters.length - shown) + characters.slice(characters.length - shown).join(''))
}

function digest(value: Buffer, { key, of }: HashKey): string {
  // The id holds no NUL, so where it ends is clear.
  return createHmac('sha256', key).update(`${of}\0`).update(value).digest('hex').slice(0, HASH_DIGITS)
}
