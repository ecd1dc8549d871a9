import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { findCaseVariants } from './case-variants.ts'
import { lossyBelow } from './lossy-numbers.ts'
import { spentMs } from './spent.fixture.ts'
import { parseStrict } from './strict-json.ts'

const bytes = (...parts: (string | number[])[]) => Buffer.concat(parts.map((part) => Buffer.from(part as string)))
const refuses = (input: string | Uint8Array, code: string, limits = {}) =>
  assert.throws(() => parseStrict(input, limits), { code }, String(input).slice(0, 80))

test('rule 2: duplicate keys are refused, however they are written and however deep', () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"x":[1,{"name":"ok","n\\u0061me":"evil"}]}',
    '{"a":{"b":1},"c":2,"a":{"b":1}}',
    '{"":1,"":2}',
    '{"\\/":1,"/":2}',
    '{"a":1,"b":{"a":1},"b":2}',
    '{"a:b":1,"a:b":2}',
  ]) {
    refuses(text, 'ambiguous')
    refuses(bytes(text), 'ambiguous')
  }
})

test('rule 2: equal keys in different objects, and colons inside strings, are nothing to refuse', () => {
  for (const text of ['[{"a":1},{"a":1}]', '{"a":{"a":{"a":1}}}', '{"a":"b:c\\":d","e:f":"{[:"}', '{"a":"\\\\","b":"\\\\\\""}']) {
    assert.deepEqual(parseStrict(text).value, JSON.parse(text))
  }
})

test('rule 2: __proto__ as a key, also in disguise, is refused; as a text it is not', () => {
  refuses('{"__proto__":{"admin":true}}', 'ambiguous')
  refuses('{"a":[{"\\u005f_proto__":1}]}', 'ambiguous')
  assert.deepEqual(parseStrict('{"a":"__proto__"}').value, { a: '__proto__' })
})

test('rule 2: what is not exactly one JSON text in UTF-8 is refused', () => {
  for (const text of [
    '',
    ' ',
    '{',
    '{"a":1}{"b":2}',
    '{"a":1} x',
    "{'a':1}",
    '{"a":1,}',
    '[1,]',
    '01',
    '+1',
    '.5',
    '1.',
    'NaN',
    '"\u0000"',
    '{"a":\u00001}',
    '"\n"',
    '"\\x"',
    'nul',
    '"a',
    '\u00a01',
    ':',
    '{"a"::1}',
    '{:}',
  ]) {
    refuses(text, 'malformed')
    refuses(bytes(text), 'malformed')
  }
  refuses('\ufeff{}', 'malformed')
  refuses(bytes([0xef, 0xbb, 0xbf], '{}'), 'malformed')
  // Overlong slash, a surrogate in UTF-8, a byte that never occurs, a cut character.
  for (const odd of [[0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xff], [0xe2, 0x82]]) refuses(bytes('"', odd, '"'), 'malformed')
  refuses(Buffer.from('{"a":1}', 'utf16le'), 'malformed')
})

test('rule 2: half a surrogate pair is refused in text and as an escape', () => {
  refuses('"\ud800"', 'malformed')
  for (const text of ['"\\ud800"', '"\\udc00\\ud800"', '{"\\uD83D":1}', '[["a\\udfff"]]']) refuses(text, 'ambiguous')
  assert.equal(parseStrict('"\\ud83d\\ude00"').value, '😀')
})

test('rule 11: size and depth have limits', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  assert.doesNotThrow(() => parseStrict(nested(64)))
  refuses(nested(65), 'too_large')
  refuses(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`, 'too_large')
  refuses('['.repeat(200_000), 'too_large')
  refuses(nested(600), 'too_large', { maxDepth: 10_000 })
  assert.doesNotThrow(() => parseStrict(`["${'['.repeat(500)}"]`))
  refuses('"aaaaaaaaa"', 'too_large', { maxBytes: 10 })
  refuses('"äääää"', 'too_large', { maxBytes: 11 })
  assert.equal(parseStrict('"äääää"', { maxBytes: 12 }).value, 'äääää')
  refuses(bytes(`"${'a'.repeat(1_048_576)}"`), 'too_large')
})

test('lossy: the numbers that a double does not keep, by their place', () => {
  const lossy = (text: string) => [...parseStrict(text).lossy]
  assert.deepEqual(lossy('{"a":[1,9007199254740993,{"b/c~":1e400}],"d":-12345678901234567890}'), ['/a/1', '/a/2/b~1c~0', '/d'])
  assert.deepEqual(lossy('{"x":"9007199254740993","9007199254740993":1}'), [])
  assert.deepEqual(lossy('9007199254740993'), [''])
  assert.deepEqual(lossy('[[],{},[9007199254740993],{"a":{}},{"\\u0062":0.1000000000000000055511151231257827}]'), ['/2/0', '/4/b'])
  for (const kept of [
    '9007199254740992',
    '0.1',
    '1.10',
    '1e2',
    '1E+2',
    '100e-2',
    '-0',
    '0e999999999',
    '123456789012345678',
    '0.30000000000000004',
    '1.7976931348623157e308',
    '5e-324',
    '1000000000000000000000',
  ]) {
    assert.deepEqual(lossy(`[${kept}]`), kept === '123456789012345678' ? ['/0'] : [], kept)
  }
  for (const lost of ['1e-400', '2e308', '0.1000000000000000001', '4e-324', `1${'0'.repeat(400)}`, `1.${'0'.repeat(500)}1`, `1e${'9'.repeat(5000)}`])
    assert.deepEqual(lossy(`[${lost}]`), ['/0'], lost)
  assert.deepEqual([...lossyBelow(new Set(['/p/args/a', '/p/argsx', '/p/args', '/q']), '/p/args')], ['/a', ''])
})

test('every JSON text is read as JSON.parse reads it, and written twice it is refused', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.boolean(), fc.constantFrom(0, 1, 2), (value, asBytes, indent) => {
      const text = JSON.stringify(value, null, indent)
      fc.pre(!text.includes('__proto__') && text.isWellFormed() && !/\\ud[89a-f]/i.test(text))
      assert.deepEqual(parseStrict(asBytes ? bytes(text) : text).value, JSON.parse(text))
    }),
    { numRuns: 1000 },
  )
})

test('duplicates: the same as a parser written for it', () => {
  const key = fc.constantFrom('a', 'b', '\\u0061', ':', '"'.replace('"', '\\"'), '{')
  const json: fc.Arbitrary<string> = fc.letrec<{ value: string; object: string; array: string }>((tie) => ({
    value: fc.oneof({ maxDepth: 4 }, fc.constantFrom('1', '"x:y"', 'null', '"\\\\"'), tie('object'), tie('array')),
    object: fc.array(fc.tuple(key, tie('value')), { maxLength: 3 }).map((entries) => `{${entries.map(([k, v]) => `"${k}" : ${v}`).join(',')}}`),
    array: fc.array(tie('value'), { maxLength: 3 }).map((items) => `[${items.join(', ')}]`),
  })).value
  fc.assert(
    fc.property(json, (text) => {
      const keys: string[][] = []
      let twice = false
      for (const [token, string] of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[{}]/g)) {
        if (token === '{') keys.push([])
        else if (token === '}') keys.pop()
        else if (string !== undefined) {
          const name = JSON.parse(string) as string
          twice ||= keys.at(-1)!.includes(name)
          keys.at(-1)!.push(name)
        }
      }
      if (twice) refuses(text, 'ambiguous')
      else assert.deepEqual(parseStrict(text).value, JSON.parse(text))
    }),
    { numRuns: 2000 },
  )
})

test('any bytes are either read as JSON.parse reads them or refused with a code', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc.array(fc.constantFrom(...'{}[]",:\\u01aefn-.+ \u0000'), { maxLength: 30 }).map((parts) => bytes(parts.join(''))),
      ),
      (input) => {
        let parsed: unknown
        try {
          parsed = parseStrict(input).value
        } catch (error) {
          assert.ok(['malformed', 'ambiguous', 'too_large'].includes((error as { code: string }).code), String(error))
          return
        }
        assert.deepEqual(parsed, JSON.parse(Buffer.from(input).toString('utf8')))
      },
    ),
    { numRuns: 3000 },
  )
})

const KNOWN = ['jsonrpc', 'id', 'method', 'params', 'name'] as const

test('rule 2: case variants of protocol keys are found (peers R01 to R04)', () => {
  assert.deepEqual(findCaseVariants({ id: 1, method: 'x', params: {}, other: 1, Other: 2 }, KNOWN), [])
  assert.deepEqual(findCaseVariants({ name: 'allowed', Name: 'denied' }, KNOWN), ['Name'])
  assert.deepEqual(findCaseVariants({ Params: {}, METHOD: '', ID: 1 }, KNOWN), ['Params', 'METHOD', 'ID'])
  // Go's encoding/json folds these two to s and k; the Turkish letters fold to i.
  assert.deepEqual(findCaseVariants({ 'param\u017f': 1 }, KNOWN), ['param\u017f'])
  assert.deepEqual(findCaseVariants({ '\u212aey': 1, ıd: 2 }, ['key', 'id']), ['\u212aey', 'ıd'])
})

test('a strict parse costs at most a few times JSON.parse', (t) => {
  const message = {
    jsonrpc: '2.0',
    id: 17,
    method: 'tools/call',
    params: {
      name: 'read_text_file',
      arguments: {
        path: '/reports/2026/q3/summary.md',
        head: 100,
        tags: ['a', 'b', 'c'],
        note: 'a "quoted" text '.repeat(20),
        more: { encoding: 'utf-8', follow: true },
      },
      _meta: {
        progressToken: 'abc-123',
        client: { name: 'claude-code', version: '2.1.0' },
        caps: { a: {}, b: {}, c: { list: [1, 2, 3.5] } },
        trace: 'x'.repeat(200),
      },
    },
  }
  const buffer = bytes(JSON.stringify(message))
  const time = (run: () => unknown) => {
    for (let i = 0; i < 20_000; i++) run()
    let best = Number.POSITIVE_INFINITY
    for (let pass = 0; pass < 5; pass++) {
      const start = process.hrtime.bigint()
      for (let i = 0; i < 20_000; i++) run()
      best = Math.min(best, Number(process.hrtime.bigint() - start) / 20_000_000)
    }
    return best
  }
  const plain = time(() => JSON.parse(buffer.toString('utf8')))
  const strict = time(() => parseStrict(buffer))
  t.diagnostic(`${buffer.length} bytes: JSON.parse ${plain.toFixed(2)} us, parseStrict ${strict.toFixed(2)} us, ${(strict / plain).toFixed(1)} times`)
  assert.ok(strict < plain * 8, `${strict} us against ${plain} us`)
})

test('rule 11: a long key over many numbers that a double does not keep costs no more than the message is worth', () => {
  // Each of them is named by its whole path: 400 KB of text took minutes and gigabytes.
  const text = `{"${'k'.repeat(100_000)}":{"x":[${'1e400,'.repeat(50_000)}1]}}`
  const before = spentMs()
  assert.throws(() => parseStrict(text), { code: 'too_large' })
  assert.ok(spentMs() - before < 2_000, 'it is refused at once')
  assert.equal(parseStrict(`{"${'k'.repeat(100_000)}":[${'1e400,'.repeat(10)}1]}`).lossy.size, 10)
})
