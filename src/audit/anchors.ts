/**
 * Finds any of a few hundred short words in one pass: Aho-Corasick as a full table, two bytes a transition. It decides for
 * every record whether there is anything to look at, so it costs one table look-up a byte.
 */
export interface Anchors {
  /** True when one of the words stands anywhere in the bytes. */
  any(bytes: Uint8Array): boolean
  /** Calls `see(word, start)` for each, by where they end. */
  each(bytes: Uint8Array, see: (word: number, start: number) => void): void
}

/** `words` are lower case ASCII and match in any case. */
export function findAnchors(words: readonly string[]): Anchors {
  const most = words.reduce((sum, word) => sum + word.length, 1)
  const next = new Uint16Array(most * 256)
  const endsHere: number[][] = [[]]
  let states = 1
  for (const [index, word] of words.entries()) {
    let state = 0
    for (const byte of Buffer.from(word)) {
      const slot = state * 256 + byte
      if (next[slot] === 0) {
        next[slot] = states++
        endsHere.push([])
      }
      state = next[slot]!
    }
    endsHere[state]!.push(index)
  }
  complete(next, states, endsHere)
  for (let state = 0; state < states; state++) {
    for (let letter = 97; letter <= 122; letter++) next[state * 256 + letter - 32] = next[state * 256 + letter]!
  }
  const final = Uint8Array.from(endsHere, (list) => (list.length > 0 ? 1 : 0))

  return {
    any(bytes) {
      let state = 0
      for (let i = 0; i < bytes.length; i++) {
        state = next[(state << 8) | bytes[i]!]!
        if (final[state] === 1) return true
      }
      return false
    },
    each(bytes, see) {
      let state = 0
      for (let i = 0; i < bytes.length; i++) {
        state = next[(state << 8) | bytes[i]!]!
        if (final[state] === 1) for (const word of endsHere[state]!) see(word, i + 1 - words[word]!.length)
      }
    },
  }
}

/** Gives every state a transition for every byte: where there is none, that of its longest proper suffix. */
function complete(next: Uint16Array, states: number, endsHere: number[][]): void {
  const fail = new Uint16Array(states)
  const queue: number[] = []
  for (let byte = 0; byte < 256; byte++) if (next[byte] !== 0) queue.push(next[byte]!)
  for (let head = 0; head < queue.length; head++) {
    const state = queue[head]!
    const suffix = fail[state]!
    endsHere[state]!.push(...endsHere[suffix]!)
    for (let byte = 0; byte < 256; byte++) {
      const slot = state * 256 + byte
      const child = next[slot]!
      const other = next[suffix * 256 + byte]!
      if (child === 0) next[slot] = other
      else {
        fail[child] = other
        queue.push(child)
      }
    }
  }
}
