import type { ChaperoneError } from '../../../errors.ts'

/**
 * Watches an answer that is too long to be taken whole go by: that it is one object with the members of a response and this
 * id. What follows a violation is not to be sent; without its end no client reads what went before.
 */
export interface TopLevel {
  /** Throws `upstream_unavailable` when it is no response. */
  push(chunk: Buffer): void
  /** Throws when it is not the whole response of this id. */
  end(): void
}

const [QUOTE, BACKSLASH, COLON, COMMA, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST] = Buffer.from('"\\:,{}[]')
/** Longer than a name or an id of a request may be written. */
const LONGEST = 2_048

export function topLevel(id: string | number, wrong: () => ChaperoneError): TopLevel {
  let depth = 0
  let quoted = false
  let escaped = false
  let over = false
  /** what is read at the top: a name, or the value of `id` */
  let reading: 'name' | 'id' | undefined
  let text: number[] = []
  let name = ''
  const seen = new Set<string>()
  let mine = false

  const member = () => {
    name = String(parsed())
    // Every other member makes it another message, or one that can be read in two ways.
    if (!['jsonrpc', 'id', 'result', 'error'].includes(name) || seen.has(name)) throw wrong()
    seen.add(name)
    reading = name === 'id' ? 'id' : undefined
  }
  const value = () => {
    if (reading === 'id') mine = parsed() === id
    reading = 'name'
  }
  const parsed = (): unknown => {
    try {
      return JSON.parse(Buffer.from(text).toString('utf8'))
    } catch {
      throw wrong()
    } finally {
      text = []
    }
  }

  return {
    push(chunk) {
      // By index: an iterator over bytes costs many times the rest of this.
      for (let i = 0; i < chunk.length; i++) {
        const byte = chunk[i]!
        if (reading !== undefined && depth === 1 && (quoted || (byte !== COLON && byte !== COMMA && byte !== CLOSE)) && text.push(byte) > LONGEST)
          throw wrong()
        if (quoted) {
          if (escaped) escaped = false
          else if (byte === BACKSLASH) escaped = true
          else if (byte === QUOTE) quoted = false
        } else if (byte === 32 || byte === 10 || byte === 13 || byte === 9) continue
        else if (over || (depth === 0 && byte !== OPEN)) throw wrong()
        else if (byte === QUOTE) quoted = true
        else if (byte === OPEN || byte === OPEN_LIST) {
          if (depth === 0) reading = 'name'
          depth++
        } else if (depth === 1 && byte === COLON) member()
        else if (depth === 1 && byte === COMMA) value()
        else if (byte === CLOSE || byte === CLOSE_LIST) {
          if (depth === 1) value()
          if (--depth === 0) over = true
        }
      }
    },
    end() {
      if (!over || !mine || seen.has('result') === seen.has('error')) throw wrong()
    },
  }
}
