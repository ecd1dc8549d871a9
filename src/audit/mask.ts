import { type Anchors, findAnchors } from './anchors.ts'
import { DETECTORS, type Detector, isNoSecret, nameGivesAway } from './detectors.ts'
import { findSecrets, type KnownSecrets } from './known-secrets.ts'

/**
 * Takes secrets out of what is about to be stored: those whose values Chaperone knows, in whatever encoding, and those
 * that look like one. What stood there is replaced by `[masked:<name>]`.
 */
export interface Masker {
  /** Values that are masked from now on. */
  add(values: readonly string[]): void
  /** False when nothing in these bytes can need masking. Cheap; they may be a JSON text of the value in question. */
  suspects(bytes: Uint8Array): boolean
  bytes(bytes: Uint8Array): Masked<Uint8Array>
  text(text: string): Masked<string>
  /** What is taken out of this text for its looks alone, in bytes of UTF-8. Whoever writes a text can make anything look like a secret. */
  looks(text: string): readonly Found[]
  /** Whether a value that Chaperone knows stands in it. */
  holds(text: string): boolean
  /** Every string and every key of a JSON value; what stands under a name like `password` is masked whole. */
  value(value: unknown): Masked<unknown>
}

export interface Masked<T> {
  readonly value: T
  /** how many secrets were taken out */
  readonly count: number
}

/** Where a secret stands, in bytes, and by whose word. */
export interface Found {
  readonly start: number
  readonly end: number
  readonly name: string
}

const KNOWN = 'secret'

const byAnchor: { readonly words: readonly string[]; readonly detectors: readonly (readonly Detector[])[]; readonly anchors: Anchors } = (() => {
  const table = new Map<string, Detector[]>()
  for (const detector of DETECTORS) {
    for (const anchor of detector.anchors) table.set(anchor, [...(table.get(anchor) ?? []), detector])
  }
  const words = [...table.keys()]
  return { words, detectors: [...table.values()], anchors: findAnchors(words) }
})()

export function createMasker(): Masker {
  const values = new Set<string>()
  let known: KnownSecrets | undefined

  function search(bytes: Uint8Array, looked?: Found[]): Found[] {
    const found: Found[] = []
    known ??= findSecrets(values)
    known.each(bytes, (start, end) => found.push({ start, end, name: KNOWN }))
    let text = ''
    /** A detector is not tried again inside of what it found: that keeps a text full of anchors linear. */
    const done = new Map<Detector, number>()
    byAnchor.anchors.each(bytes, (word, start) => {
      if (text === '') text = view(bytes).toString('latin1')
      for (const detector of byAnchor.detectors[word]!) {
        if (start < (done.get(detector) ?? 0)) continue
        const range = detector.find(text, start)
        if (!range) continue
        done.set(detector, range.end)
        found.push({ ...range, name: detector.name })
        looked?.push({ ...range, name: detector.name })
      }
    })
    return merge(found)
  }

  const masker: Masker = {
    add(more) {
      for (const value of more) values.add(value)
      known = undefined // built again when it is next needed: many secrets come at once
    },
    suspects(bytes) {
      if (byAnchor.anchors.any(bytes)) return true
      known ??= findSecrets(values)
      if (known.hasShort) return true // whether those stand alone cannot be told from a JSON text
      let hit = false
      known.each(bytes, () => {
        hit = true
      })
      return hit
    },
    bytes(bytes) {
      const found = search(bytes)
      if (found.length === 0) return { value: bytes, count: 0 }
      const pieces: Uint8Array[] = []
      let at = 0
      for (const { start, end, name } of found) {
        pieces.push(bytes.subarray(at, start), Buffer.from(`[masked:${name}]`))
        at = end
      }
      pieces.push(bytes.subarray(at))
      return { value: Buffer.concat(pieces), count: found.length }
    },
    text(text) {
      const { value, count } = masker.bytes(Buffer.from(text))
      return { value: count === 0 ? text : view(value).toString(), count }
    },
    looks(text) {
      const looked: Found[] = []
      search(Buffer.from(text), looked)
      return looked
    },
    holds(text) {
      let hit = false
      known ??= findSecrets(values)
      known.each(Buffer.from(text), () => {
        hit = true
      })
      return hit
    },
    value(value) {
      let count = 0
      const text = (input: string): string => {
        const masked = masker.text(input)
        count += masked.count
        return masked.value
      }
      const hide = (input: unknown): unknown => {
        if (Array.isArray(input)) return input.map(hide)
        if (typeof input !== 'number' && (typeof input !== 'string' || isNoSecret(input))) return walk(input)
        count++
        return `[masked:${KNOWN}]`
      }
      const walk = (input: unknown): unknown => {
        if (typeof input === 'string') return text(input)
        if (Array.isArray(input)) return input.map(walk)
        if (typeof input !== 'object' || input === null) return input
        const entries: [string, unknown][] = []
        const taken = new Set<string>()
        for (const [key, item] of Object.entries(input)) {
          const masked = text(key)
          let name = masked
          // Two keys that masking made equal are two facts still.
          for (let n = 2; taken.has(name); n++) name = `${masked}#${n}`
          taken.add(name)
          entries.push([name, nameGivesAway(key) ? hide(item) : walk(item)])
        }
        return Object.fromEntries(entries)
      }
      return { value: walk(value), count }
    },
  }
  return masker
}

/** Sorted, without overlaps; where two met, the wider one gives its name. */
function merge(found: Found[]): Found[] {
  if (found.length < 2) return found
  found.sort((a, b) => a.start - b.start || b.end - a.end)
  const merged: Found[] = []
  for (const next of found) {
    const last = merged.at(-1)
    if (!last || next.start >= last.end) merged.push(next)
    else {
      const wider = next.end - next.start > last.end - last.start ? next : last
      merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, next.end), name: wider.name }
    }
  }
  return merged
}

const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
