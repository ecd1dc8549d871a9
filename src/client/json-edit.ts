import { ChaperoneError } from '../errors.ts'

/**
 * Reads, sets and removes members of a JSON file that belongs to somebody else, and leaves every other byte as it is:
 * comments and trailing commas (VS Code and others allow them), order, spacing, long numbers. Pure.
 */

/** A value's place in the text, and what is in it. */
interface Value {
  readonly start: number
  readonly end: number
  readonly members?: readonly Member[]
  readonly items?: readonly Value[]
}

interface Member {
  readonly key: string
  readonly start: number
  readonly value: Value
  /** where the comma after it stands */
  readonly comma?: number
}

const DEEPEST = 200

class Scanner {
  #at = 0
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  document(): Value {
    this.#space()
    const value = this.#value(0)
    this.#space()
    if (this.#at < this.#text.length) this.#fail()
    return value
  }

  #fail(): never {
    const before = this.#text.slice(0, this.#at)
    const line = before.split('\n').length
    throw new ChaperoneError('invalid_document', `The file is not JSON: line ${line}, column ${this.#at - before.lastIndexOf('\n')}.`, {
      fix: 'Mend it, or add the entry by hand.',
    })
  }

  #space(): void {
    for (;;) {
      const rest = /^(?:[\s\uFEFF]+|\/\/[^\n]*|\/\*[\s\S]*?\*\/)/.exec(this.#text.slice(this.#at, this.#at + 65_536))
      if (!rest) return
      this.#at += rest[0].length
    }
  }

  #value(depth: number): Value {
    if (depth > DEEPEST) this.#fail()
    const start = this.#at
    const first = this.#text[start]
    if (first === '{') return this.#object(depth)
    if (first === '[') return this.#array(depth)
    if (first === '"') this.#string()
    else {
      const literal = /^(?:true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/.exec(this.#text.slice(start, start + 400))
      if (!literal) this.#fail()
      this.#at += literal[0].length
    }
    return { start, end: this.#at }
  }

  #string(): string {
    const start = this.#at
    for (this.#at++; this.#at < this.#text.length; this.#at++) {
      if (this.#text[this.#at] === '\\') this.#at++
      else if (this.#text[this.#at] === '"') {
        this.#at++
        try {
          return JSON.parse(this.#text.slice(start, this.#at)) as string
        } catch {
          break
        }
      }
    }
    this.#at = start
    return this.#fail()
  }

  #object(depth: number): Value {
    const start = this.#at++
    const members: Member[] = []
    for (;;) {
      this.#space()
      if (this.#text[this.#at] === '}') break
      const memberStart = this.#at
      if (this.#text[this.#at] !== '"') this.#fail()
      const key = this.#string()
      this.#space()
      if (this.#text[this.#at] !== ':') this.#fail()
      this.#at++
      this.#space()
      const value = this.#value(depth + 1)
      this.#space()
      const comma = this.#text[this.#at] === ',' ? this.#at++ : undefined
      members.push({ key, start: memberStart, value, ...(comma === undefined ? {} : { comma }) })
      if (comma === undefined && this.#text[this.#at] !== '}') this.#fail()
    }
    this.#at++
    return { start, end: this.#at, members }
  }

  #array(depth: number): Value {
    const start = this.#at++
    const items: Value[] = []
    for (;;) {
      this.#space()
      if (this.#text[this.#at] === ']') break
      items.push(this.#value(depth + 1))
      this.#space()
      if (this.#text[this.#at] === ',') this.#at++
      else if (this.#text[this.#at] !== ']') this.#fail()
    }
    this.#at++
    return { start, end: this.#at, items }
  }
}

/** What the text says, comments and trailing commas or not; an empty text is an empty object. Throws `invalid_document`. */
export function readJson(text: string): unknown {
  if (text.trim() === '') return {}
  const read = ({ start, end, members, items }: Value): unknown => {
    if (items) return items.map(read)
    if (!members) return JSON.parse(text.slice(start, end)) as unknown
    // Not by assignment: `__proto__` is a key like any other.
    return Object.fromEntries(members.map(({ key, value }) => [key, read(value)]))
  }
  return read(new Scanner(text).document())
}

/** The text without the member at `path`; the same text when there is none. Throws `invalid_document` when the text is no JSON. */
export function removeMember(text: string, path: readonly string[]): string {
  if (text.trim() === '') return text
  let here: Value | undefined = new Scanner(text).document()
  for (const key of path.slice(0, -1)) here = here?.members?.findLast((member) => member.key === key)?.value
  const members = here?.members ?? []
  const last = path.at(-1)
  // Each of them: of two equal keys, the first would stand up again.
  const gone = members.flatMap((member, i) => (member.key === last ? [i] : []))
  let after = text
  for (const i of gone.reverse()) after = withoutMember(after, members, i)
  return after
}

function withoutMember(text: string, members: readonly Member[], i: number): string {
  const { start, value, comma } = members[i]!
  let from = start
  let to = comma === undefined ? value.end : comma + 1
  const lineStart = text.lastIndexOf('\n', start - 1)
  const rest = /^[ \t]*(?:\r?\n|$)/.exec(text.slice(to))
  // A line that held nothing else goes with it.
  if (lineStart >= 0 && text.slice(lineStart + 1, start).trim() === '' && (rest || /^\s*\}/.test(text.slice(to)))) {
    from = lineStart
    if (rest) to += rest[0].replace(/\r?\n$/, '').length
  }
  const before = members[i - 1]?.comma
  const orphan = comma === undefined && i === members.length - 1 ? before : undefined
  const kept = orphan === undefined ? text.slice(0, from) : text.slice(0, orphan) + text.slice(orphan + 1, from)
  return kept + text.slice(to)
}

const indentBy = (text: string, by: string) => text.replaceAll('\n', `\n${by}`)

/** One step of indentation as the file has it: its smallest one. */
function unitOf(text: string): string {
  const steps = [...text.matchAll(/\n([ \t]+)"/g)].map((match) => match[1]!)
  const smallest = steps.sort((a, b) => a.length - b.length)[0] ?? '  '
  return smallest.startsWith('\t') ? '\t' : smallest
}

function says(text: string, value: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(value)
  } catch {
    return false
  }
}

/** The text with `value` at `path`; objects on the way are made. Throws `invalid_document` when the text is no JSON object. */
export function setMember(text: string, path: readonly string[], value: unknown): string {
  if (text.trim() === '')
    return `${JSON.stringify(
      path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value),
      null,
      2,
    )}\n`
  const unit = unitOf(text)
  let here = new Scanner(text).document()
  for (let depth = 0; ; depth++) {
    if (!here.members)
      throw new ChaperoneError('invalid_document', `${path.slice(0, depth).join('.') || 'The file'} is not a JSON object.`, {
        fix: 'Add the entry by hand.',
      })
    const key = path[depth]!
    // The last of two equal keys is the one that JSON.parse keeps.
    const member = here.members.findLast((candidate) => candidate.key === key)
    const last = depth === path.length - 1
    if (member && !last) {
      here = member.value
      continue
    }
    const inner = last ? value : path.slice(depth + 1).reduceRight<unknown>((made, name) => ({ [name]: made }), value)
    const by = unit.repeat(depth + 1)
    const written = indentBy(JSON.stringify(inner, null, unit), by)
    if (member && says(text.slice(member.value.start, member.value.end), inner)) return text
    if (member) return text.slice(0, member.value.start) + written + text.slice(member.value.end)
    return insertFirst(text, here, `${JSON.stringify(key)}: ${written}`, by, unit.repeat(depth))
  }
}

/** At the beginning of the object, where neither a trailing comma nor a comment can be in the way. */
function insertFirst(text: string, object: Value, member: string, by: string, closing: string): string {
  const open = object.start + 1
  const rest = text.slice(open)
  if (object.members!.length === 0) {
    const inside = text.slice(open, object.end - 1)
    return `${text.slice(0, open)}\n${by}${member}${inside.trim() === '' ? `\n${closing}` : inside}${text.slice(object.end - 1)}`
  }
  return `${text.slice(0, open)}\n${by}${member},${/^\s*\n/.test(rest) ? '' : `\n${by}`}${rest}`
}
