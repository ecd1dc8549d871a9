import type { Token } from './tokens.ts'

/** columns that a line takes where it can be broken */
const WIDTH = 76
const STEP = '  '
/** of parentheses and CASE */
const MOST_DEPTH = 100

/** One token, or what stands between parentheses, brackets, or CASE and END. */
interface Node {
  readonly token: Token
  readonly inside: Node[] | undefined
  close: Token | undefined
  /** columns of it in one line; infinite when it cannot stand in one */
  flat: number
}

const OPENS: ReadonlySet<string> = new Set(['(', '['])
const CLOSES: ReadonlySet<string> = new Set([')', ']'])
const QUERIES: ReadonlySet<string> = new Set(['select', 'with', 'insert', 'update', 'delete', 'merge', 'values', 'explain', 'table'])
const HEADS: ReadonlySet<string> = new Set(
  'select from where group having order limit offset fetch window union intersect except returning values set'.split(' '),
)
const JOINS: ReadonlySet<string> = new Set(['join', 'left', 'right', 'full', 'inner', 'cross', 'natural'])
const STARTS: ReadonlySet<string> = new Set(['insert', 'update', 'delete', 'merge'])

/**
 * SQL with a line for each clause, and only its spaces changed: no token is made, left out, written in another way or broken
 * (`laid-out.ts` holds it to that). Throws RangeError for what is nested too deep.
 */
export function layOut(tokens: readonly Token[]): string {
  const page = new Page()
  sequence(page, nested(tokens), '')
  return page.text
}

function nested(tokens: readonly Token[]): Node[] {
  const top: Node[] = []
  const open: Node[] = []
  for (const token of tokens) {
    const into = open.at(-1)?.inside ?? top
    const last = open.at(-1)
    if (last && (last.token.word === 'case' ? token.word === 'end' : CLOSES.has(token.text))) {
      last.close = token
      open.pop()
      last.flat = last.token.text.length + flatOf(last.inside!) + token.text.length + (last.token.word === 'case' ? 2 : 0)
      continue
    }
    const opens = OPENS.has(token.text) || token.word === 'case'
    const one = token.comment === 'line' || token.text.includes('\n') ? Number.POSITIVE_INFINITY : token.text.length
    const node: Node = { token, inside: opens ? [] : undefined, close: undefined, flat: one }
    into.push(node)
    if (opens && open.push(node) > MOST_DEPTH) throw new RangeError('nested too deep')
  }
  // Never closed: a part of a statement.
  for (const node of open) node.flat = Number.POSITIVE_INFINITY
  return top
}

const flatOf = (nodes: readonly Node[]): number =>
  nodes.reduce((sum, node, i) => sum + node.flat + (i > 0 && spaced(nodes[i - 1]!.close ?? nodes[i - 1]!.token, node.token) ? 1 : 0), 0)

/** Whether a space stands between them in one line: as it was written, but for commas, parentheses and comments. */
function spaced(before: Token, token: Token): boolean {
  if (before.comment || token.comment) return true
  if (token.text === ',' || token.text === ';' || CLOSES.has(token.text) || OPENS.has(before.text)) return false
  return before.text === ',' || token.apart
}

/** What has been written so far. */
class Page {
  text = ''
  #column = 0
  #last: Token | undefined
  #fresh = true

  get left(): number {
    return WIDTH - this.#column
  }

  line(indent: string): void {
    if (this.#fresh && this.text === '') return
    this.text = `${this.#fresh ? this.text.trimEnd() : this.text}\n${indent}`
    this.#column = indent.length
    this.#fresh = true
  }

  put(token: Token, indent: string, width = token.text.length): void {
    if (this.#last?.comment === 'line' && !this.#fresh) this.line(indent)
    const space = !this.#fresh && this.#last !== undefined && spaced(this.#last, token)
    // Broken only where a space would stand; and with a line end between them two strings are one.
    const joined = token.text.startsWith("'") && this.#last?.text.endsWith("'")
    if (space && !joined && this.#column + 1 + width > WIDTH && this.#column > indent.length) this.line(indent)
    else if (space) {
      this.text += ' '
      this.#column++
    }
    this.text += token.text
    const newline = token.text.lastIndexOf('\n')
    this.#column = newline < 0 ? this.#column + token.text.length : token.text.length - newline - 1
    this.#last = token
    this.#fresh = false
  }
}

/** A statement, several, or what stands in parentheses. */
function sequence(page: Page, nodes: readonly Node[], indent: string): void {
  if (flatOf(nodes) <= page.left) inline(page, nodes, indent)
  else if (QUERIES.has(nodes.find(({ token }) => !token.comment && token.text !== '(')?.token.word ?? '')) {
    for (const [i, clause] of clausesOf(nodes).entries()) {
      if (i > 0) page.line(indent)
      body(page, clause, indent)
    }
  } else items(page, nodes, indent)
}

/** A new one begins with each word that begins one. */
function clausesOf(nodes: readonly Node[]): Node[][] {
  const clauses: Node[][] = [[]]
  let verb = ''
  nodes.forEach((node, i) => {
    const { word, text } = node.token
    const before = nodes[i - 1]?.token.word ?? ''
    const after = nodes[i + 1]?.token.word ?? ''
    const begins =
      (HEADS.has(word) && !(word === 'from' && (before === 'distinct' || before === 'delete')) && !(word === 'select' && before === 'explain')) ||
      (STARTS.has(word) && before !== 'do' && before !== 'for' && before !== 'then' && before !== 'key') ||
      (JOINS.has(word) &&
        node.inside === undefined &&
        (word === 'join' ? !JOINS.has(before) && before !== 'outer' : JOINS.has(after) || after === 'outer') &&
        !JOINS.has(before)) ||
      (word === 'on' && after === 'conflict') ||
      (word === 'using' && (verb === 'delete' || verb === 'merge')) ||
      (word === 'when' && verb === 'merge')
    if (verb === '' && (STARTS.has(word) || word === 'select')) verb = word
    if (begins && clauses.at(-1)!.length > 0) clauses.push([])
    clauses.at(-1)!.push(node)
    if (text === ';') {
      clauses.push([])
      verb = ''
    }
  })
  return clauses.filter((clause) => clause.length > 0)
}

/** One clause: in its line when it fits, else its head, and each of its parts in a line of its own. */
function body(page: Page, clause: readonly Node[], indent: string): void {
  let head = clause.findIndex(({ token, inside }) => token.word === '' || inside !== undefined)
  if (head < 0) head = clause.length
  const rest = clause.slice(head)
  if (flatOf(clause) <= page.left || head === 0 || partsOf(rest).length === 1) inline(page, clause, indent, indent + STEP)
  else {
    inline(page, clause.slice(0, head), indent)
    page.line(indent + STEP)
    items(page, rest, indent + STEP)
  }
}

function items(page: Page, nodes: readonly Node[], indent: string): void {
  for (const [i, part] of partsOf(nodes).entries()) {
    if (i > 0) page.line(indent)
    inline(page, part, indent)
  }
}

/** Behind each comma; where there is none, before each AND and OR, WHEN and ELSE. */
function partsOf(nodes: readonly Node[]): Node[][] {
  const commas = nodes.some(({ token }) => token.text === ',')
  const parts: Node[][] = [[]]
  let between = false
  let over = false
  for (const node of nodes) {
    const { word, text } = node.token
    const joins = (word === 'and' && !between) || word === 'or' || word === 'when' || word === 'else'
    if (word === 'between') between = true
    else if (word === 'and') between = false
    const last = parts.at(-1)!
    // A comment behind the comma belongs to what stands before it.
    if (commas ? over && !node.token.comment : joins && last.length > 0) {
      parts.push([node])
      over = false
    } else last.push(node)
    over ||= text === ','
    if (text === ';') parts.push([])
  }
  return parts.filter((part) => part.length > 0)
}

/**
 * One after the other, broken where the line is full, and then with `hang` before it; what stands in parentheses goes into lines
 * of its own when it does not fit.
 */
function inline(page: Page, nodes: readonly Node[], indent: string, hang = indent): void {
  for (const { token, inside, close, flat } of nodes) {
    const fits = flat <= WIDTH - hang.length
    page.put(token, hang, inside && fits ? flat : token.text.length)
    if (!inside) continue
    const isCase = token.word === 'case'
    if (fits && flat - token.text.length <= page.left) inline(page, inside, hang)
    else if (inside.length > 0) {
      page.line(indent + STEP)
      // Many short values are read as a block, not as a column.
      if (isCase) items(page, inside, indent + STEP)
      else if (inside.every(({ inside: more, token: { comment, word } }) => !more && !comment && word === '')) inline(page, inside, indent + STEP)
      else sequence(page, inside, indent + STEP)
      page.line(indent)
    }
    if (close) page.put(close, hang)
  }
}
