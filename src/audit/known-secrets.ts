/**
 * Finds secrets whose values are known, in every form in which they travel. A thousand secrets are some ten thousand
 * patterns: Aho-Corasick again (linear whatever the text), its edges in one hash table, because a full table of that many
 * states would be hundreds of megabytes.
 */
export interface KnownSecrets {
  /** one of them is so short that it counts only where it stands alone */
  readonly hasShort: boolean
  /** Calls `see(start, end)` for what must be masked; ranges may overlap. */
  each(bytes: Uint8Array, see: (start: number, end: number) => void): void
}

/** A shorter value is masked only where it stands alone: `abc` is in too many words. */
const SHORT = 6
/** A piece of base64 shorter than this proves nothing. */
const SHORTEST_PIECE = 8

export function findSecrets(values: Iterable<string>): KnownSecrets {
  const patterns = new Set<string>()
  for (const value of values) for (const form of formsOf(value)) patterns.add(form)
  patterns.delete('')
  const machine = build([...patterns])
  return {
    hasShort: [...patterns].some((pattern) => pattern.length < SHORT),
    each(bytes, see) {
      if (patterns.size > 0) machine(bytes, see)
    },
  }
}

/** Every form of the value that is searched for, as latin1 text of its bytes. */
export function formsOf(value: string): Set<string> {
  const bytes = Buffer.from(value)
  const forms = new Set([bytes.toString('latin1')])
  if (bytes.length < SHORT) return forms
  const add = (text: string) => forms.add(Buffer.from(text).toString('latin1'))

  const json = JSON.stringify(value).slice(1, -1)
  add(json)
  add(json.replaceAll('/', '\\/'))
  const ascii = json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  add(ascii)
  // JSON inside of JSON: what an MCP result that carries a document as text looks like.
  add(JSON.stringify(json).slice(1, -1))
  add(value.replaceAll("'", "''"))

  const percent = encodeURIComponent(value.toWellFormed())
  const strict = percent.replace(/[!'()*~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
  for (const text of [percent, strict, new URLSearchParams({ v: value }).toString().slice(2), encodeURI(value.toWellFormed())]) {
    add(text)
    add(text.replace(/%[0-9A-F]{2}/g, (encoded) => encoded.toLowerCase()))
  }

  const hex = bytes.toString('hex')
  add(hex)
  add(hex.toUpperCase())
  for (const piece of base64Pieces(bytes)) {
    add(piece)
    add(piece.replaceAll('+', '-').replaceAll('/', '_'))
    add(piece.replaceAll('/', '\\/'))
  }
  return forms
}

/**
 * base64 of the value when 0, 1 or 2 bytes stand before it (`user:password` of HTTP Basic): only the characters that the
 * value alone decides, so that they are found whatever stands around it.
 */
function base64Pieces(bytes: Buffer): string[] {
  const pieces: string[] = []
  for (let before = 0; before < 3; before++) {
    const text = Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .replace(/=+$/, '')
    const start = Math.ceil((before * 8) / 6)
    const end = Math.floor(((before + bytes.length) * 8) / 6)
    const piece = text.slice(start, end)
    if (piece.length >= SHORTEST_PIECE) pieces.push(piece)
  }
  return pieces
}

type Machine = (bytes: Uint8Array, see: (start: number, end: number) => void) => void

function build(patterns: readonly string[]): Machine {
  const most = patterns.reduce((sum, pattern) => sum + pattern.length, 1)
  let slots = 1024
  while (slots < most * 2) slots *= 2
  const shift = 32 - Math.log2(slots)
  // Open addressing; the key is state * 256 + byte + 1, so 0 is an empty slot. 2^24 states would be 16 MB of secrets.
  const keys = new Uint32Array(slots)
  const targets = new Uint32Array(slots)
  const find = (state: number, byte: number): number => {
    const key = (state * 256 + byte + 1) >>> 0
    for (let slot = Math.imul(key, 0x9e3779b1) >>> shift; ; slot = (slot + 1) & (slots - 1)) {
      if (keys[slot] === key || keys[slot] === 0) return slot
    }
  }
  /** length of the pattern that ends in this state, 0 for none */
  const own = new Uint32Array(most)
  const parent = new Uint32Array(most)
  const letter = new Uint8Array(most)
  const depth = new Uint32Array(most)
  let states = 1
  for (const pattern of patterns) {
    let state = 0
    for (let i = 0; i < pattern.length; i++) {
      const byte = pattern.charCodeAt(i)
      const slot = find(state, byte)
      if (keys[slot] === 0) {
        keys[slot] = (state * 256 + byte + 1) >>> 0
        targets[slot] = states
        parent[states] = state
        letter[states] = byte
        depth[states] = i + 1
        states++
      }
      state = targets[slot]!
    }
    own[state] = pattern.length
  }
  const first = new Uint32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    const slot = find(0, byte)
    if (keys[slot] !== 0) first[byte] = targets[slot]!
  }
  const fail = new Uint32Array(states)
  const step = (from: number, byte: number): number => {
    for (let state = from; state !== 0; state = fail[state]!) {
      const slot = find(state, byte)
      if (keys[slot] !== 0) return targets[slot]!
    }
    return first[byte]!
  }
  /** the nearest state along the suffixes in which a pattern ends, itself included; 0 for none */
  const ends = new Uint32Array(states)
  for (const state of Array.from({ length: states - 1 }, (_, i) => i + 1).sort((a, b) => depth[a]! - depth[b]!)) {
    if (depth[state]! > 1) fail[state] = step(fail[parent[state]!]!, letter[state]!)
    ends[state] = own[state] !== 0 ? state : ends[fail[state]!]!
  }

  return (bytes, see) => {
    let state = 0
    for (let i = 0; i < bytes.length; i++) {
      state = state === 0 ? first[bytes[i]!]! : step(state, bytes[i]!)
      for (let end = state === 0 ? 0 : ends[state]!; end !== 0; end = ends[fail[end]!]!) {
        const start = i + 1 - own[end]!
        if (own[end]! >= SHORT || standsAlone(bytes, start, i + 1)) see(start, i + 1)
        if (own[end]! >= SHORT) break // those that end here too are inside of it
      }
    }
  }
}

const isWord = (byte: number | undefined) =>
  byte !== undefined && ((byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122) || byte === 95 || byte >= 128)

const standsAlone = (bytes: Uint8Array, start: number, end: number) => !isWord(bytes[start - 1]) && !isWord(bytes[end])
