import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readDataRow, readErrorFields } from '../wire/server.ts'
import { errorMessage } from '../wire/write.ts'
import { hideValue } from './forms.ts'
import { hiddenByBoth, hiddenByEither, isMaskKey } from './keys.ts'
import { RowMasks, readRowDescription } from './rows.ts'
import { MASK_FORMS, type Mask, type MaskForm, type MaskPlan } from './types.ts'
import { hideWords } from './words.ts'

const TEXT = 25
const hash = { key: Buffer.from('key'), of: 'res_1' }

const int16 = (value: number) => Buffer.from([(value >> 8) & 255, value & 255])
const int32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value | 0)
  return bytes
}
const frameOf = (type: string, ...parts: Buffer[]) => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}
const description = (fields: readonly (readonly [name: string, table: number, attnum: number, type: number])[]) =>
  frameOf(
    'T',
    int16(fields.length),
    ...fields.map(([name, table, attnum, type]) =>
      Buffer.concat([Buffer.from(`${name}\0`), int32(table), int16(attnum), int32(type), int16(-1), int32(-1), int16(0)]),
    ),
  )
const dataRow = (values: readonly (Buffer | null)[]) =>
  frameOf('D', int16(values.length), ...values.map((value) => (value ? Buffer.concat([int32(value.length), value]) : int32(-1))))

const planOf = (outputs: Readonly<Record<number, MaskForm>>, width: number): MaskPlan => ({
  outputs: new Map(Object.entries(outputs).map(([place, form]) => [Number(place), form])),
  width,
  hiddenAt: (table, attnum) => (table === 20001 && attnum === 3 ? 'last4' : undefined),
  guarded: true,
  idle: [],
})

test('each form shows what it says, and nothing of types that are no texts', () => {
  const show = (form: MaskForm, value: string, type = TEXT) => hideValue(form, Buffer.from(value), type, hash)?.toString() ?? null
  assert.equal(show('null', 'boris@example.org'), null)
  assert.equal(show('fixed', 'boris@example.org'), '***')
  assert.equal(show('last4', 'boris@example.org'), '*************.org')
  assert.deepEqual(
    ['', 'a', 'ab', 'abc', 'abcde', 'abcdefgh', 'abcdefghi', 'aaé💶'].map((value) => show('last4', value)),
    ['', '*', '*b', '**c', '***de', '****efgh', '*****fghi', '**é💶'],
  )
  assert.match(show('hash', 'x')!, /^[0-9a-f]{32}$/)
  assert.equal(show('hash', 'x'), show('hash', 'x', 1043))
  assert.notEqual(show('hash', 'x'), show('hash', 'y'))
  assert.notEqual(show('hash', 'x'), hideValue('hash', Buffer.from('x'), TEXT, { ...hash, of: 'res_2' })?.toString())
  assert.notEqual(show('hash', 'x'), hideValue('hash', Buffer.from('x'), TEXT, { ...hash, key: Buffer.from('other') })?.toString())
  for (const form of MASK_FORMS) assert.equal(show(form, '12345678', 23), null)
})

const value = fc.option(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  { nil: null },
)

test('whatever a row holds, only hidden places change, NULL stays NULL, and the message stays whole', () => {
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 8 }),
      fc.array(fc.constantFrom(...MASK_FORMS, undefined), { minLength: 8, maxLength: 8 }),
      (values, forms) => {
        const outputs = Object.fromEntries(values.flatMap((_, i) => (forms[i] ? [[i, forms[i]]] : [])))
        const masks = new RowMasks(planOf(outputs, values.length), hash)
        masks.describe(values.map(() => ({ table: 0, attnum: 0, type: TEXT })))
        const out = masks.row(dataRow(values))
        assert.equal(out.readInt32BE(1), out.length - 1)
        const expected = values.map((bytes, i) => (bytes && forms[i] ? hideValue(forms[i], bytes, TEXT, hash) : bytes))
        assert.deepEqual(out, dataRow(expected))
      },
    ),
  )
})

test('rows that are not as planned are not shown: another width, a hidden column elsewhere, no description', () => {
  const refused = { code: 'obligation_unsupported' }
  const masks = () => new RowMasks(planOf({ 1: 'last4' }, 2), hash)
  const fields = (...columns: (readonly [number, number])[]) =>
    readRowDescription(description(columns.map(([table, attnum]) => ['x', table, attnum, TEXT])))
  masks().describe(fields([20001, 1], [20001, 3]))
  assert.throws(() => masks().describe(fields([20001, 3], [20001, 1])), refused)
  assert.throws(() => masks().describe(fields([20001, 1], [20001, 3], [20001, 2])), refused)
  assert.throws(() => masks().row(dataRow([null, null])), refused)
  assert.throws(() => masks().assertDescribed(undefined), refused)
  const one = masks()
  one.assertDescribed(fields([0, 0], [0, 0]))
  assert.throws(() => one.row(dataRow([null])), refused)
  assert.deepEqual(readDataRow(one.row(dataRow([Buffer.from('a'), Buffer.from('abcdefgh')]))), ['a', '****efgh'])
})

const said = (frame: Buffer | undefined) => frame && Object.fromEntries(readErrorFields(frame))

test('an error of which nothing has to be hidden arrives as it is, to the byte', () => {
  for (const [sqlstate, message] of [
    ['25P02', 'current transaction is aborted, commands ignored until end of transaction block'],
    ['23505', 'duplicate key value violates unique constraint "people_email_key"'],
  ] as const) {
    const frame = errorMessage({ severity: 'ERROR', sqlstate, message })
    assert.deepEqual(hideWords(frame), frame)
  }
})

test('of the words of the server those stay that cannot quote a value', () => {
  const error = (sqlstate: string, message: string, more: { detail?: string; hint?: string } = {}, severity: 'ERROR' | 'NOTICE' = 'ERROR') =>
    said(hideWords(errorMessage({ severity, sqlstate, message, ...more })))
  const secret = 'c1@example.org'
  const unique = error('23505', 'duplicate key value violates unique constraint "people_email_key"', {
    detail: `Key (email)=(${secret}) already exists.`,
  })
  assert.deepEqual(unique, {
    S: 'ERROR',
    V: 'ERROR',
    C: '23505',
    M: 'duplicate key value violates unique constraint "people_email_key"',
    R: 'chaperone',
  })
  for (const [code, message] of [
    ['22P02', `invalid input syntax for type integer: "${secret}"`],
    ['22003', `value "${secret}" is out of range for type integer`],
    ['P0001', `this is ${secret}`],
    ['XX000', `cache lookup failed for ${secret}`],
    ['HV000', `remote: ${secret}`],
  ] as const) {
    const hidden = error(code, message, { detail: secret, hint: secret })
    assert.equal(hidden?.C, code)
    assert.ok(!JSON.stringify(hidden).includes(secret), code)
  }
  assert.equal(error('22012', 'division by zero')?.M, 'division by zero')
  assert.equal(error('42703', 'column "emial" does not exist')?.M, 'column "emial" does not exist')
  assert.equal(error('00000', secret, {}, 'NOTICE'), undefined)
  assert.equal(error('P0001', secret, {}, 'NOTICE'), undefined)
  assert.equal(error('25P01', 'there is no transaction in progress', {}, 'NOTICE')?.M, 'there is no transaction in progress')
})

test('an error in the text itself keeps its words: no row was read yet', () => {
  const fields = (letters: Readonly<Record<string, string>>) =>
    frameOf('E', ...Object.entries(letters).map(([letter, text]) => Buffer.from(`${letter}${text}\0`)), Buffer.from([0]))
  const words = { S: 'ERROR', V: 'ERROR', C: '22P02', M: 'invalid input syntax for type integer: "abc"', P: '30' }
  assert.deepEqual(said(hideWords(fields(words))), words)
  assert.doesNotMatch(said(hideWords(fields({ ...words, q: 'select ...', p: '3' })))!.M!, /abc/)
  assert.equal(said(hideWords(fields({ ...words, W: 'COPY t, line 1: "x"', D: 'd' })))!.W, undefined)
})

test('masks of several rules are joined as other obligations are', () => {
  const [a, b]: Mask[] = [
    { 'public.t.a': 'null', 'public.t.b': 'last4', 'public.t.c': 'hash' },
    { 'public.*.a': 'last4', 'public.t.b': 'fixed' },
  ]
  assert.deepEqual(hiddenByBoth(a!, b!), { 'public.t.a': 'last4', 'public.t.b': 'last4' })
  assert.deepEqual(hiddenByBoth(b!, a!), hiddenByBoth(a!, b!))
  assert.deepEqual(hiddenByEither(a!, b!), { 'public.t.a': 'null', 'public.t.b': 'null', 'public.t.c': 'hash', 'public.*.a': 'last4' })
  assert.deepEqual(hiddenByBoth({ 'public.t.a': 'null' }, { 'public.t.b': 'null' }), {})
  // What both hide stays hidden, also where it cannot be written as one pattern.
  const [crossed, other] = [{ 'public.cust*.email': 'null' }, { 'public.*mers.email': 'hash' }] as const
  assert.deepEqual(hiddenByBoth(crossed, other), { 'public.cust*.email': 'hash', 'public.*mers.email': 'hash' })
  assert.deepEqual(hiddenByBoth({ 'public.*.email': 'null' }, { 'public.t.*': 'null' }), { 'public.*.email': 'null', 'public.t.*': 'null' })
  assert.deepEqual(hiddenByBoth({ 'public.cust*.email': 'null' }, { 'public.ord*.email': 'null' }), {})
  // as YAML reads the word without quotes
  assert.deepEqual(hiddenByEither({ 'public.t.a': null }, {}), { 'public.t.a': 'null' })
})

test('a key is schema.table.column', () => {
  for (const key of ['public.t.c', 'public.*.email', '*.*.*', 'My Schema.t.c']) assert.ok(isMaskKey(key), key)
  for (const key of ['t.c', 'c', 'a.b.c.d', '..', 'public..c', 'public.t.**', 'public.t.[ab]']) assert.ok(!isMaskKey(key), key)
})
