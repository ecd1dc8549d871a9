/**
 * Which numbers of a JSON text a double does not keep. A rule that reads `9007199254740993` would judge ...992, and the
 * server upstream may well get the exact one (rule 2).
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}[\],]/gs

/**
 * JSON pointers (RFC 6901) of the numbers whose decimal value is not the one that the double prints. `text` must be valid
 * JSON with distinct keys. Slow; called only when a long number was seen.
 */
export function lossyNumbers(text: string): ReadonlySet<string> {
  const lossy = new Set<string>()
  /** One entry a container: the key or index of the value being read. */
  const path: (string | number)[] = []
  const isArray: boolean[] = []
  let expectKey = false
  for (const [token] of text.matchAll(TOKEN)) {
    const top = path.length - 1
    if (token === '{' || token === '[') {
      isArray.push(token === '[')
      path.push(token === '[' ? 0 : '')
      expectKey = token === '{'
    } else if (token === '}' || token === ']') {
      isArray.pop()
      path.pop()
      expectKey = false
    } else if (token === ',') {
      if (isArray[top]) path[top] = (path[top] as number) + 1
      else expectKey = true
    } else if (token.startsWith('"')) {
      if (expectKey) path[top] = JSON.parse(token) as string
      expectKey = false
    } else if (!survives(token)) {
      lossy.add(path.map((step) => `/${escapeStep(step)}`).join(''))
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
  return Number.isFinite(value) && decimal(token) === decimal(String(value))
}

/** Digits without outer zeros and the power of ten of the last of them: equal exactly when the values are. */
function decimal(token: string): string {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(token)!
  const digits = (whole! + fraction).replace(/^0+/, '')
  const kept = digits.replace(/0+$/, '')
  if (kept === '') return '0'
  // BigInt, because an exponent may be written with more digits than a double holds.
  return `${sign}${kept}e${BigInt(exponent) - BigInt(fraction.length) + BigInt(digits.length - kept.length)}`
}
