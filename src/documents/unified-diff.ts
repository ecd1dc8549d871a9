/** Over this many comparisons the middle is shown as replaced, not compared line by line (rule 11). */
const MOST_CELLS = 4_000_000
const CONTEXT = 3

type Line = readonly [' ' | '-' | '+', string]

/** The unified diff of two texts without a file header; empty when they are equal. */
export function unifiedDiff(before: string, after: string): string {
  const lines = compare(split(before), split(after))
  if (lines.every(([sign]) => sign === ' ')) return ''
  const out: string[] = []
  let oldLine = 1
  let newLine = 1
  let i = 0
  while (i < lines.length) {
    const next = lines.findIndex(([sign], j) => j >= i && sign !== ' ')
    if (next === -1) break
    const start = Math.max(i, next - CONTEXT)
    oldLine += start - i
    newLine += start - i
    let end = next
    for (let j = next; j < lines.length && j <= end + 2 * CONTEXT; j++) if (lines[j]![0] !== ' ') end = j
    const stop = Math.min(lines.length, end + 1 + CONTEXT)
    const hunk = lines.slice(start, stop)
    const olds = hunk.filter(([sign]) => sign !== '+').length
    const news = hunk.filter(([sign]) => sign !== '-').length
    out.push(`@@ -${range(oldLine, olds)} +${range(newLine, news)} @@`, ...hunk.map(([sign, text]) => sign + text))
    oldLine += olds
    newLine += news
    i = stop
  }
  return `${out.join('\n')}\n`
}

/** An empty range names the line before it, as diff(1) does. */
const range = (line: number, count: number) => (count === 0 ? `${line - 1},0` : count === 1 ? `${line}` : `${line},${count}`)

const split = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'))

function compare(a: readonly string[], b: readonly string[]): Line[] {
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++
  const middle = longestCommon(a.slice(head, a.length - tail), b.slice(head, b.length - tail))
  const same = (text: string): Line => [' ', text]
  return [...a.slice(0, head).map(same), ...middle, ...a.slice(a.length - tail).map(same)]
}

function longestCommon(a: readonly string[], b: readonly string[]): Line[] {
  const width = b.length + 1
  if (a.length * b.length > MOST_CELLS) return [...a.map((text): Line => ['-', text]), ...b.map((text): Line => ['+', text])]
  const length = new Uint32Array((a.length + 1) * width)
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i * width + j] =
        a[i] === b[j] ? length[(i + 1) * width + j + 1]! + 1 : Math.max(length[(i + 1) * width + j]!, length[i * width + j + 1]!)
    }
  }
  const lines: Line[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push([' ', a[i]!])
      i++
      j++
    } else if (j >= b.length || (i < a.length && length[(i + 1) * width + j]! >= length[i * width + j + 1]!)) lines.push(['-', a[i++]!])
    else lines.push(['+', b[j++]!])
  }
  return lines
}
