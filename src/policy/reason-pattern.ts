import { ChaperoneError } from '../errors.ts'

/**
 * The form of a reason (`OPS-\d+`): a small part of what regular expressions can say, matched in time that grows with the
 * length of the text alone. The engine of the language backtracks, and here a caller chooses the text (rule 11); `where`
 * has no `matches` for the same cause.
 *
 * Read are: characters, `.`, classes (`[A-Z0-9]`, `[^ ]`), `\d \w \s`, an escaped sign, groups with `|`, the quantifiers
 * `? * + {n} {n,m}`, `^` at the beginning and `$` at the end. Without those two it may stand anywhere in the text.
 */
export interface ReasonPattern {
  fits(text: string): boolean
}

const LONGEST_PATTERN = 200
const MOST_REPEATS = 50
/** Each is looked at once for each character of a text. */
const MOST_STATES = 1000
const DEEPEST = 10

type Test = (code: number) => boolean

type Node =
  | { readonly op: 'char'; readonly test: Test }
  | { readonly op: 'all'; readonly of: readonly Node[] }
  | { readonly op: 'any'; readonly of: readonly Node[] }
  | { readonly op: 'repeat'; readonly of: Node; readonly least: number; readonly most: number }

/** Throws ChaperoneError('invalid_document') for what is not read here. */
export function compileReasonPattern(pattern: string): ReasonPattern {
  if (pattern.length === 0 || pattern.length > LONGEST_PATTERN) throw bad(pattern, `it has to be of 1 to ${LONGEST_PATTERN} characters`)
  const atStart = pattern.startsWith('^')
  const atEnd = /(^|[^\\])(\\\\)*\$$/.test(pattern)
  const states = assemble(new Reader(pattern, atStart ? 1 : 0, pattern.length - (atEnd ? 1 : 0)).whole(), pattern)
  return { fits: (text) => run(states, text, atStart, atEnd) }
}

const bad = (pattern: string, why: string) =>
  new ChaperoneError('invalid_document', `${JSON.stringify(pattern.slice(0, 80))} is not a pattern for reasons: ${why}.`, {
    fix: 'Write characters, classes such as [A-Z] or \\d, groups with |, and ? * + {n,m}, for example OPS-\\d+.',
  })

const isDigit: Test = (code) => code >= 48 && code <= 57
const isWord: Test = (code) => isDigit(code) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95
const isSpace: Test = (code) => /\s/.test(String.fromCodePoint(code))
const ESCAPED: Readonly<Record<string, Test>> = { d: isDigit, w: isWord, s: isSpace }
const SIGNS = '^$\\.*+?()[]{}|/-'

/** Reads a pattern from its text, by recursive descent. */
class Reader {
  readonly #text: string
  readonly #signs: readonly string[]
  #at = 0
  #depth = 0

  constructor(text: string, from: number, to: number) {
    this.#text = text
    this.#signs = [...text.slice(from, to)]
  }

  whole(): Node {
    const node = this.#alternatives()
    if (this.#at < this.#signs.length) throw this.#bad('a ) without its (')
    return node
  }

  #alternatives(): Node {
    const of = [this.#sequence()]
    while (this.#take('|')) of.push(this.#sequence())
    return of.length === 1 ? of[0]! : { op: 'any', of }
  }

  #sequence(): Node {
    const of: Node[] = []
    for (let next = this.#signs[this.#at]; next !== undefined && next !== '|' && next !== ')'; next = this.#signs[this.#at])
      of.push(this.#repeated(this.#atom()))
    return { op: 'all', of }
  }

  #atom(): Node {
    const sign = this.#signs[this.#at++]!
    if (sign === '(') {
      if (++this.#depth > DEEPEST) throw this.#bad('its groups are nested too deeply')
      if (this.#signs[this.#at] === '?') throw this.#bad('groups with (? are not read here')
      const inner = this.#alternatives()
      if (!this.#take(')')) throw this.#bad('a ( without its )')
      this.#depth--
      return inner
    }
    if (sign === '[') return { op: 'char', test: this.#charClass() }
    if (sign === '.') return { op: 'char', test: (code) => code !== 10 && code !== 13 && code !== 0x2028 && code !== 0x2029 }
    if (sign === '\\') return { op: 'char', test: this.#escape() }
    if ('*+?{}]^$'.includes(sign)) throw this.#bad(`${sign} stands where it means nothing; write \\${sign} for the sign itself`)
    return { op: 'char', test: only(sign) }
  }

  #escape(): Test {
    const sign = this.#signs[this.#at++]
    if (sign !== undefined && Object.hasOwn(ESCAPED, sign)) return ESCAPED[sign]!
    if (sign === undefined || !SIGNS.includes(sign)) throw this.#bad(`\\${sign ?? ''} is not read here`)
    return only(sign)
  }

  #charClass(): Test {
    const not = this.#take('^')
    const tests: Test[] = []
    while (!this.#take(']')) {
      const from = this.#signs[this.#at++]
      if (from === undefined) throw this.#bad('a [ without its ]')
      if (from === '[') throw this.#bad('a [ inside a class; write \\[')
      const escaped = from === '\\' ? this.#signs[this.#at] : undefined
      const test = from === '\\' ? this.#escape() : only(from)
      const isRange = this.#signs[this.#at] === '-' && this.#signs[this.#at + 1] !== ']' && this.#signs[this.#at + 1] !== undefined
      if (!isRange) {
        tests.push(test)
        continue
      }
      const to = this.#signs[this.#at + 1]!
      if (escaped !== undefined || to === '\\') throw this.#bad('a range with an escaped end')
      this.#at += 2
      const [low, high] = [from.codePointAt(0)!, to.codePointAt(0)!]
      if (low > high) throw this.#bad(`the range ${from}-${to} is turned around`)
      tests.push((code) => code >= low && code <= high)
    }
    if (tests.length === 0) throw this.#bad('a class without a character')
    return (code) => tests.some((test) => test(code)) !== not
  }

  #repeated(of: Node): Node {
    const sign = this.#signs[this.#at]
    let counts: readonly [number, number] | undefined
    if (sign === '?') counts = [0, 1]
    else if (sign === '*') counts = [0, Number.POSITIVE_INFINITY]
    else if (sign === '+') counts = [1, Number.POSITIVE_INFINITY]
    else if (sign === '{') {
      const end = this.#signs.indexOf('}', this.#at)
      const found = /^(\d{1,3})(?:,(\d{0,3}))?$/.exec(this.#signs.slice(this.#at + 1, Math.max(end, this.#at + 1)).join(''))
      if (!found) throw this.#bad('a { without a count')
      const least = Number(found[1])
      const most = found[2] === undefined ? least : found[2] === '' ? Number.POSITIVE_INFINITY : Number(found[2])
      if (least > MOST_REPEATS || (most > MOST_REPEATS && Number.isFinite(most)) || most < least)
        throw this.#bad(`its counts go from low to high, up to ${MOST_REPEATS}`)
      counts = [least, most]
      this.#at = end
    }
    if (!counts) return of
    this.#at++
    if ('?*+{'.includes(this.#signs[this.#at] ?? ' ')) throw this.#bad('two quantifiers in a row')
    return { op: 'repeat', of, least: counts[0], most: counts[1] }
  }

  #take(sign: string): boolean {
    if (this.#signs[this.#at] !== sign) return false
    this.#at++
    return true
  }

  #bad(why: string): ChaperoneError {
    return bad(this.#text, why)
  }
}

const only = (sign: string): Test => {
  const wanted = sign.codePointAt(0)!
  return (code) => code === wanted
}

/** A state waits for a character, or leads on to others; the last one has neither: there the pattern is met. */
interface State {
  readonly test?: Test
  readonly next: number[]
}

function assemble(node: Node, pattern: string): readonly State[] {
  const states: State[] = []
  const add = (state: State): number => {
    if (states.length >= MOST_STATES) throw bad(pattern, 'it says too much')
    return states.push(state) - 1
  }
  /** Builds what leads to `to`; returns where it begins. */
  const build = (part: Node, to: number): number => {
    switch (part.op) {
      case 'char':
        return add({ test: part.test, next: [to] })
      case 'all':
        return part.of.reduceRight((after, each) => build(each, after), to)
      case 'any':
        return add({ next: part.of.map((each) => build(each, to)) })
      case 'repeat': {
        let after = to
        if (part.most === Number.POSITIVE_INFINITY) {
          const loop: State = { next: [to] }
          after = add(loop)
          loop.next.push(build(part.of, after))
        } else for (let n = part.least; n < part.most; n++) after = add({ next: [to, build(part.of, after)] })
        for (let n = 0; n < part.least; n++) after = build(part.of, after)
        return after
      }
    }
  }
  const end = add({ next: [] })
  const begin = build(node, end)
  // The two that the run must know are the first and the last.
  add({ next: [begin] })
  return states
}

function run(states: readonly State[], text: string, atStart: boolean, atEnd: boolean): boolean {
  const begin = states.length - 1
  const follow = (set: Set<number>, from: number) => {
    const open = [from]
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      if (set.has(state)) continue
      set.add(state)
      if (states[state]!.test === undefined) open.push(...states[state]!.next)
    }
  }
  let now = new Set<number>()
  follow(now, begin)
  for (const sign of text) {
    if (!atEnd && now.has(0)) return true
    const code = sign.codePointAt(0)!
    const then = new Set<number>()
    for (const state of now) if (states[state]!.test?.(code)) follow(then, states[state]!.next[0]!)
    if (!atStart) follow(then, begin)
    now = then
  }
  return now.has(0)
}
