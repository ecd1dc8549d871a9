import { invalid } from './errors.ts'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
export type Attributes = { readonly [key: string]: Json }

export interface Operation {
  readonly op: 'add' | 'replace' | 'remove'
  readonly path?: string
  readonly value?: Json
}

const MOST_OPERATIONS = 1_000

/** RFC 7644 section 3.5.2. Entra writes `Add` and `Replace`. Throws `invalidSyntax`, `invalidValue`. */
export function operationsIn(body: Attributes): readonly Operation[] {
  const operations = body.Operations ?? body.operations
  if (!Array.isArray(operations) || operations.length === 0) throw invalid('A patch has `Operations`.', 'invalidSyntax')
  if (operations.length > MOST_OPERATIONS) throw invalid(`A patch has at most ${MOST_OPERATIONS} operations.`, 'tooMany')
  return operations.map((one) => {
    if (!isObject(one)) throw invalid('An operation is an object.', 'invalidSyntax')
    const op = typeof one.op === 'string' ? one.op.toLowerCase() : ''
    if (op !== 'add' && op !== 'replace' && op !== 'remove') throw invalid('An operation adds, replaces or removes.', 'invalidSyntax')
    if (one.path !== undefined && typeof one.path !== 'string') throw invalid('A path is text.', 'invalidPath')
    if (op !== 'remove' && one.value === undefined) throw invalid('There is no value.')
    return { op, ...(one.path === undefined ? {} : { path: one.path }), ...(one.value === undefined ? {} : { value: one.value }) } as Operation
  })
}

/** The resource as it is after the operations. What is read only there (`id`, `meta`, `groups`) stays as it is. Pure. */
export function patched(before: Attributes, operations: readonly Operation[]): Attributes {
  let after = before
  for (const { op, path, value } of operations) {
    if (path !== undefined) {
      after = change(after, pathOf(path), op, value)
      continue
    }
    if (op === 'remove') throw invalid('What to remove is not said.', 'noTarget')
    if (!isObject(value)) throw invalid('Without a path the value is an object.')
    // Entra writes `{"name.givenName": "..."}` here: the keys are read as paths.
    for (const [key, one] of Object.entries(value)) after = change(after, pathOf(key), op, one)
  }
  return after
}

interface Path {
  /** name of an extension, for what lies in it */
  readonly schema?: string
  readonly attribute?: string
  /** of a value that has several: those of which this holds */
  readonly where?: { readonly attribute: string; readonly value: Json }
  readonly sub?: string
}

const NAME = /^[A-Za-z$][\w$-]{0,99}$/
const PATH =
  /^(?:(urn:[A-Za-z0-9:._-]+):)?([A-Za-z$][\w$-]*)(?:\[\s*([A-Za-z$]+)\s+eq\s+("(?:[^"\\]|\\.)*"|true|false)\s*\])?(?:\.([A-Za-z$][\w$-]*))?$/i
const CORE = /^urn:ietf:params:scim:schemas:core:2\.0:(?:User|Group)$/i

function pathOf(text: string): Path {
  if (text.length > 512) throw invalid('A path is too long.', 'invalidPath')
  // The whole of an extension: `urn:...:2.0:User` itself would be read as an attribute `User`.
  if (/^urn:ietf:params:scim:schemas:extension:[A-Za-z0-9]+:2\.0:[A-Za-z]+$/i.test(text)) return { schema: text }
  const [match, schema, attribute = '', by, literal, sub] = PATH.exec(text) ?? []
  if (match === undefined || attribute === '__proto__')
    throw invalid(`The path ${JSON.stringify(text.slice(0, 80))} is not understood.`, 'invalidPath')
  return {
    ...(schema === undefined || CORE.test(schema) ? {} : { schema }),
    attribute,
    ...(by === undefined || literal === undefined
      ? {}
      : { where: { attribute: by, value: JSON.parse(/^(?:true|false)$/i.test(literal) ? literal.toLowerCase() : literal) } }),
    ...(sub === undefined ? {} : { sub }),
  }
}

const READ_ONLY = new Set(['id', 'meta', 'groups', 'schemas'])

function change(before: Attributes, { schema, attribute, where, sub }: Path, op: Operation['op'], value: Json | undefined): Attributes {
  if (schema !== undefined) {
    const key = keyIn(before, schema)
    const inside = isObject(before[key]) ? before[key] : {}
    if (attribute === undefined) {
      if (op === 'remove') return without(before, key)
      if (!isObject(value)) throw invalid('The value of an extension is an object.')
      return { ...before, [key]: { ...inside, ...plain(value) } }
    }
    return { ...before, [key]: change(inside, { attribute, ...(where ? { where } : {}), ...(sub === undefined ? {} : { sub }) }, op, value) }
  }
  if (attribute === undefined || !NAME.test(attribute)) throw invalid('The path is not understood.', 'invalidPath')
  const key = keyIn(before, attribute)
  if (READ_ONLY.has(key.toLowerCase())) return before
  const is = before[key]
  if (where) return { ...before, [key]: changeSome(is, where, sub, op, value) }
  if (sub !== undefined) {
    const inside = isObject(is) ? is : {}
    return { ...before, [key]: change(inside, { attribute: sub }, op, value) }
  }
  if (op === 'remove') {
    // Entra removes members with a list of them as the value.
    if (Array.isArray(value) && Array.isArray(is)) return { ...before, [key]: is.filter((one) => !value.some((other) => sameMember(one, other))) }
    return without(before, key)
  }
  if (op === 'add' && Array.isArray(is)) {
    const more = Array.isArray(value) ? value : [value as Json]
    return { ...before, [key]: [...is, ...more.filter((one) => !is.some((there) => sameMember(there, one)))] }
  }
  if (op === 'add' && isObject(is) && isObject(value)) return { ...before, [key]: { ...is, ...plain(value) } }
  return { ...before, [key]: value as Json }
}

function changeSome(
  is: Json | undefined,
  where: NonNullable<Path['where']>,
  sub: string | undefined,
  op: Operation['op'],
  value: Json | undefined,
): Json {
  const list = Array.isArray(is) ? (is as readonly Json[]) : []
  const fits = (one: Json) => isObject(one) && sameValue(one[keyIn(one, where.attribute)], where.value)
  if (op === 'remove' && sub === undefined) return list.filter((one) => !fits(one))
  const changeOne = (one: Attributes): Json =>
    sub !== undefined ? change(one, { attribute: sub }, op, value) : isObject(value) ? { ...one, ...plain(value) } : (value as Json)
  if (list.some(fits)) return list.map((one) => (fits(one) ? changeOne(one as Attributes) : one))
  if (op === 'remove') return list
  // Entra replaces `emails[type eq "work"].value` of somebody who has none yet, and means this.
  return [...list, changeOne({ [where.attribute]: where.value })]
}

export const isObject = (value: Json | undefined): value is Attributes => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Names of attributes are the same in upper and lower case (RFC 7643 section 2.1). */
export function keyIn(object: Attributes, name: string): string {
  const lower = name.toLowerCase()
  return Object.keys(object).find((key) => key.toLowerCase() === lower) ?? name
}

const plain = (value: Attributes): Attributes => Object.fromEntries(Object.entries(value).filter(([key]) => key !== '__proto__'))

function without(object: Attributes, key: string): Attributes {
  const { [key]: _, ...rest } = object
  return rest
}

const sameMember = (a: Json | undefined, b: Json): boolean => (isObject(a) && isObject(b) ? a.value !== undefined && a.value === b.value : a === b)
const sameValue = (a: Json | undefined, b: Json): boolean =>
  typeof a === 'string' && typeof b === 'string'
    ? a.toLowerCase() === b.toLowerCase()
    : a === b || String(a).toLowerCase() === String(b).toLowerCase()
