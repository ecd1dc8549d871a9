import pg from 'pg'
import type { Json } from './types.ts'

/** Types by the number that PostgreSQL gave them for ever (pg_type.dat); all others are the database's own. */
const NAMES: Readonly<Record<number, string>> = {
  16: 'bool',
  17: 'bytea',
  18: 'char',
  19: 'name',
  20: 'int8',
  21: 'int2',
  23: 'int4',
  24: 'regproc',
  25: 'text',
  26: 'oid',
  27: 'tid',
  28: 'xid',
  114: 'json',
  142: 'xml',
  600: 'point',
  650: 'cidr',
  700: 'float4',
  701: 'float8',
  705: 'unknown',
  790: 'money',
  829: 'macaddr',
  869: 'inet',
  1033: 'aclitem',
  1042: 'bpchar',
  1043: 'varchar',
  1082: 'date',
  1083: 'time',
  1114: 'timestamp',
  1184: 'timestamptz',
  1186: 'interval',
  1266: 'timetz',
  1560: 'bit',
  1562: 'varbit',
  1700: 'numeric',
  2205: 'regclass',
  2206: 'regtype',
  2249: 'record',
  2278: 'void',
  2950: 'uuid',
  3220: 'pg_lsn',
  3614: 'tsvector',
  3615: 'tsquery',
  3802: 'jsonb',
  3904: 'int4range',
  3906: 'numrange',
  3908: 'tsrange',
  3910: 'tstzrange',
  3912: 'daterange',
  3926: 'int8range',
}

/** Array types and the type of their elements. */
const ARRAYS: Readonly<Record<number, number>> = {
  199: 114,
  651: 650,
  1000: 16,
  1001: 17,
  1002: 18,
  1003: 19,
  1005: 21,
  1007: 23,
  1009: 25,
  1014: 1042,
  1015: 1043,
  1016: 20,
  1021: 700,
  1022: 701,
  1028: 26,
  1041: 869,
  1115: 1114,
  1182: 1082,
  1183: 1083,
  1185: 1184,
  1187: 1186,
  1231: 1700,
  2951: 2950,
  3807: 3802,
}

export const typeName = (oid: number): string => {
  const element = ARRAYS[oid]
  return element === undefined ? (NAMES[oid] ?? `oid ${oid}`) : `${NAMES[element]}[]`
}

/**
 * A value from the text that the server wrote. What would not survive as it is stays text: a number whose digits a double
 * does not keep, a time (no time zone is applied twice), whatever a mask put in the place of a number.
 */
export function jsonValue(text: string | null, oid: number): Json {
  if (text === null) return null
  const element = ARRAYS[oid]
  if (element !== undefined) return arrayOf(text, element)
  switch (NAMES[oid]) {
    case 'bool':
      return text === 't' ? true : text === 'f' ? false : text
    case 'int2':
    case 'int4':
    case 'int8':
    case 'oid':
    case 'numeric':
      // '1.50' is 1.5 as a number, but whoever wrote two digits meant them.
      return isKept(text) ? Number(text) : text
    case 'float4':
    case 'float8':
      return /^-?\d/.test(text) && Number.isFinite(Number(text)) ? Number(text) : text
    case 'bytea':
      return /^\\x(?:[0-9a-f]{2})*$/.test(text) ? { base64: Buffer.from(text.slice(2), 'hex').toString('base64') } : text
    case 'json':
    case 'jsonb':
      return jsonOf(text)
    default:
      return text
  }
}

function isKept(digits: string): boolean {
  const number = Number(digits)
  return String(number) === digits && (Number.isSafeInteger(number) || (Number.isFinite(number) && !Number.isInteger(number)))
}

/** Its published types are those of an older version. */
const arrayParser = pg.types.arrayParser as unknown as { create(text: string, each: (entry: string) => string): { parse(): unknown[] } }

function arrayOf(text: string, element: number): Json {
  // Bounds of its own (`[0:1]={a,b}`) and boxes (their separator is another one) would be lost.
  if (!text.startsWith('{')) return text
  try {
    const deep = (value: unknown): Json => (Array.isArray(value) ? value.map(deep) : jsonValue(value as string | null, element))
    return deep(arrayParser.create(text, (entry) => entry).parse())
  } catch {
    return text
  }
}

interface RawJson {
  rawJSON(source: string): Json
}

/** Numbers keep the digits that they were stored with. */
function jsonOf(text: string): Json {
  if (isDeep(text)) return text
  try {
    return JSON.parse(text, (_, value: Json, context?: { readonly source?: string }) => {
      const source = context?.source
      return typeof value === 'number' && source !== undefined && String(value) !== source ? (JSON as unknown as RawJson).rawJSON(source) : value
    }) as Json
  } catch {
    return text
  }
}

/** What is nested so deeply that writing it as JSON again would not end well; PostgreSQL keeps thousands of levels. */
function isDeep(text: string): boolean {
  let depth = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === '[' || token === '{') depth++
    else if (token === ']' || token === '}') depth--
    if (depth > MOST_LEVELS) return true
  }
  return false
}
const MOST_LEVELS = 200

/** A value as it is shown. What is too long is its beginning, as it was written, and says so. */
export function shownValue(text: string | null, oid: number, chars: number): { readonly value: Json; readonly cut: boolean } {
  // Nobody reads megabytes as JSON to throw most of it away.
  return shortened(text !== null && text.length > chars ? text : jsonValue(text, oid), chars)
}

/** A value that is longer than it may be is its beginning, and says so. */
export function shortened(value: Json, chars: number): { readonly value: Json; readonly cut: boolean } {
  const text = typeof value === 'string' ? value : typeof value === 'object' && value !== null ? JSON.stringify(value) : ''
  if (text.length <= chars) return { value, cut: false }
  // Half of a surrogate pair is no text.
  const end = /[\ud800-\udbff]/.test(text[chars - 1]!) ? chars - 1 : chars
  return { value: `${text.slice(0, end)}… [cut: ${text.length} characters]`, cut: true }
}
