import { ChaperoneError } from '../errors.ts'

/**
 * Which numbers of a JSON text a double does not keep. A rule that reads `9007199254740993` would judge ...992, and the
 * server upstream may well get the exact one (rule 2).
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}[\],]/gs

/** Characters of all pointers together. A key may be as long as the message, and every number below it names it again. */
const MOST_POINTERS = 2 * 1024 * 1024

/**
 * JSON pointers (RFC 6901) of the numbers whose decimal value is not the one that the double prints. `text` must be valid
 * JSON with distinct keys. Slow; called only when a long number was seen. Throws ChaperoneError('too_large') when the pointers would be.
 */
export function lossyNumbers(text: string): ReadonlySet<string> {
  const lossy = new Set<string>()
  /** One entry a container: its pointer, whether it is an array, and the key or index of the value being read. */
  const pointers: string[] = []
  const isArray: boolean[] = []
  const steps: (string | number)[] = []
  let expectKey = false
  let length = 0
  const here = (top: number) => (top < 0 ? '' : `${pointers[top]}/${steps[top]}`)
  for (const [token] of text.matchAll(TOKEN)) {
    const top = steps.length - 1
    if (token === '{' || token === '[') {
      pointers.push(here(top))
      isArray.push(token === '[')
      steps.push(token === '[' ? 0 : '')
      expectKey = token === '{'
    } else if (token === '}' || token === ']') {
      pointers.pop()
      isArray.pop()
      steps.pop()
      expectKey = false
    } else if (token === ',') {
      if (isArray[top]) steps[top] = (steps[top] as number) + 1
      else expectKey = true
    } else if (token.startsWith('"')) {
      if (expectKey) steps[top] = escapeStep(JSON.parse(token) as string)
      expectKey = false
    } else if (!survives(token)) {
      const found = here(top)
      length += found.length
      if (length > MOST_POINTERS) throw new ChaperoneError('too_large', 'The message has too many numbers that a double does not keep.')
      lossy.add(found)
    }
  }
  return lossy
}

const escapeStep = (step: string | number) => String(step).replaceAll('~', '~0').replaceAll('/', '~1')

/** The pointer of a value below another one. */
export function pointerTo(parent: string, step: string | number): string {
  return `${parent}/${escapeStep(step)}`
}

/** The pointers below `parent`, seen from there: what a matcher of `params.arguments` needs when the whole message was parsed. */
export function lossyBelow(lossy: ReadonlySet<string>, parent: string): ReadonlySet<string> {
  const below = new Set<string>()
  for (const pointer of lossy) if (pointer === parent || pointer.startsWith(`${parent}/`)) below.add(pointer.slice(parent.length))
  return below
}

/** Whether the double prints the same decimal value as the token says: `1.0` and `1e2` do, `1e400` and 2^53+1 do not. */
function survives(token: string): boolean {
  // No double needs as many characters; the work below grows with them.
  if (token.length > 400) return false
  const value = Number(token)
  if (!Number.isFinite(value)) return false
  const printed = String(value)
  return printed === token || decimal(token) === decimal(printed)
}

/** Digits without outer zeros and the power of ten of the last of them: equal exactly when the values are. */
function decimal(token: string): string {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(token)!
  const digits = (whole! + fraction).replace(/^0+/, '')
  const kept = digits.replace(/0+$/, '')
  if (kept === '') return '0'
  const shift = digits.length - kept.length - fraction.length
  // BigInt, because an exponent may be written with more digits than a double holds; most are not, and it is slow.
  return `${sign}${kept}e${exponent.length < 15 ? Number(exponent) + shift : BigInt(exponent) + BigInt(shift)}`
}
