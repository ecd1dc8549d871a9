/** Values as an approver reads them: those that a driver sent in binary in the form in which SQL writes them, where that is known. */

const EPOCH_2000 = Date.UTC(2000, 0, 1)
const DAY = 86_400_000

const READERS: Readonly<Record<number, (bytes: Buffer) => string>> = {
  16: (bytes) => (bytes.readUInt8() === 0 ? 'false' : 'true'),
  20: (bytes) => bytes.readBigInt64BE().toString(),
  21: (bytes) => bytes.readInt16BE().toString(),
  23: (bytes) => bytes.readInt32BE().toString(),
  26: (bytes) => bytes.readUInt32BE().toString(),
  700: (bytes) => String(bytes.readFloatBE()),
  701: (bytes) => String(bytes.readDoubleBE()),
  1082: (bytes) => new Date(EPOCH_2000 + bytes.readInt32BE() * DAY).toISOString().slice(0, 10),
  1114: (bytes) => microseconds(bytes).replace('Z', ''),
  1184: microseconds,
  1700: numeric,
  2950: (bytes) => bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
  3802: (bytes) => bytes.toString('utf8', 1),
}
/** char name text json xml bpchar varchar unknown: their binary form is their text. */
const TEXTS: ReadonlySet<number> = new Set([18, 19, 25, 114, 142, 705, 1042, 1043])

/** `format` 1 is binary. What cannot be read is shown as its bytes. */
export function readableValue(value: Buffer | null, format: number, type: number): string {
  if (value === null) return 'NULL'
  if (format !== 1 || TEXTS.has(type)) return JSON.stringify(value.toString('utf8'))
  try {
    const read = Object.hasOwn(READERS, type) ? READERS[type] : undefined
    if (read) return read(value)
  } catch {
    // Shorter than the type is: the server will say so.
  }
  return `bytes in hexadecimal ${value.toString('hex')}`
}

function microseconds(bytes: Buffer): string {
  const since = bytes.readBigInt64BE()
  const ms = EPOCH_2000 + Number(since / 1000n)
  return `${new Date(ms).toISOString().slice(0, -1)}${String(((since % 1000n) + 1000n) % 1000n).padStart(3, '0')}Z`
}

/** int16s: groups of four digits, weight of the first, sign, digits behind the point; then the groups (numeric_send). */
function numeric(bytes: Buffer): string {
  const [count, weight, sign, scale] = [bytes.readInt16BE(0), bytes.readInt16BE(2), bytes.readUInt16BE(4), bytes.readInt16BE(6)]
  if (sign !== 0 && sign !== 0x4000) return 'NaN or infinite'
  const group = (at: number) => String(at >= 0 && at < count ? bytes.readInt16BE(8 + 2 * at) : 0).padStart(4, '0')
  let whole = ''
  for (let at = 0; at <= weight; at++) whole += group(at)
  let fraction = ''
  for (let at = weight + 1; fraction.length < scale; at++) fraction += group(at)
  const number = (whole.replace(/^0+(?=\d)/, '') || '0') + (scale > 0 ? `.${fraction.slice(0, scale)}` : '')
  return sign === 0x4000 ? `-${number}` : number
}
