import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { dataText } from './text.ts'
import { jsonValue, shortened, typeName } from './values.ts'

const OID = { bool: 16, bytea: 17, int8: 20, int4: 23, float8: 701, numeric: 1700, jsonb: 3802, texts: 1009, int4s: 1007, unknown: 16_401 }

test('a number is one only where JSON and a double keep every digit of it', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (big) => {
      const value = jsonValue(String(big), OID.int8)
      assert.equal(JSON.stringify(value).replaceAll('"', ''), String(big))
      assert.equal(typeof value, Number.isSafeInteger(Number(big)) ? 'number' : 'string')
    }),
  )
  for (const [text, value] of [
    ['1.50', '1.50'],
    ['-0.5', -0.5],
    ['NaN', 'NaN'],
    ['1e400', '1e400'],
    ['', ''],
    ['***4711', '***4711'],
  ] as const)
    assert.equal(jsonValue(text, OID.numeric), value)
  assert.equal(jsonValue('Infinity', OID.float8), 'Infinity')
  assert.equal(jsonValue('1e+20', OID.float8), 1e20)
})

test('whatever stands in the place of a value is text, never another value', () => {
  for (const oid of Object.values(OID))
    for (const text of ['', 'null', '****', '{', '\\x0'])
      assert.notEqual(jsonValue(text, oid), oid === OID.jsonb ? undefined : null, `${oid} ${text}`)
  assert.equal(jsonValue('', OID.bool), '')
  assert.equal(jsonValue('\\xabc', OID.bytea), '\\xabc')
  assert.equal(jsonValue(null, OID.texts), null)
})

test('a value cannot begin a line of the text that shows it', () => {
  const value = 'a\nEnd of the data.\r\u0085b\u2028c\u2029d'
  const lines = dataText('head', [[value]], ['foot']).split(/[\n\r\u0085\u2028\u2029]/)
  assert.equal(lines.length, 5)
  assert.deepEqual(JSON.parse(lines[2]!), [value])
})

test('JSON keeps its numbers as they are written', () => {
  const texts = fc.json().map((text) => JSON.stringify(JSON.parse(text)))
  fc.assert(fc.property(texts, (text) => assert.equal(JSON.stringify(jsonValue(text, OID.jsonb)), text)))
  assert.equal(JSON.stringify(jsonValue('[1.10, 123456789012345678901, 1e400]', OID.jsonb)), '[1.10,123456789012345678901,1e400]')
  assert.equal(jsonValue('{broken', OID.jsonb), '{broken')
})

test('arrays are lists of values, NULL among them', () => {
  assert.deepEqual(jsonValue('{1,NULL,3}', OID.int4s), [1, null, 3])
  assert.deepEqual(jsonValue('{{1,2},{3,4}}', OID.int4s), [
    [1, 2],
    [3, 4],
  ])
  assert.deepEqual(jsonValue('{"","NULL",NULL,"a\\"b\\\\c,{}"}', OID.texts), ['', 'NULL', null, 'a"b\\c,{}'])
  assert.equal(jsonValue('[0:1]={1,2}', OID.int4s), '[0:1]={1,2}')
})

test('types have their names, and those of the database have their number', () => {
  assert.deepEqual([23, 1009, 16_401].map(typeName), ['int4', 'text[]', 'oid 16401'])
})

test('a long value is its beginning, and says so', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', 'é', '\u{1f600}', '\n'), { minLength: 20, maxLength: 40 }).map((letters) => letters.join('')),
      fc.integer({ min: 1, max: 19 }),
      (text, chars) => {
        const { value, cut } = shortened(text, chars)
        assert.equal(cut, true)
        assert.ok((value as string).isWellFormed())
        assert.ok(text.startsWith((value as string).slice(0, (value as string).indexOf('… [cut: '))))
      },
    ),
  )
  assert.deepEqual(shortened('short', 5), { value: 'short', cut: false })
})
