import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LONGEST_STARTUP, readOpening, readPassword, writeStartup } from './startup.ts'

const VERSION = 196608

test('a startup message is read back as it was written, and not before it is whole', () => {
  const text = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }).filter((value) => !value.includes('\0'))
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(text, text), { selector: ([name]) => name, maxLength: 10 }), (pairs) => {
      const parameters = new Map(pairs)
      const bytes = writeStartup(VERSION, parameters)
      assert.deepEqual(readOpening(Buffer.concat([bytes, Buffer.from('rest')])), {
        opening: { kind: 'startup', version: VERSION, parameters },
        size: bytes.length,
      })
      assert.equal(readOpening(bytes.subarray(0, bytes.length - 1)), undefined)
    }),
  )
})

test('any bytes are either waited for, read, or refused with a reason', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        readOpening(Buffer.from(bytes))
      } catch (error) {
        assert.match((error as { code: string }).code, /^(malformed|too_large|ambiguous|unsupported)$/)
      }
    }),
    { numRuns: 500 },
  )
})

test('rule 2: a parameter that stands twice is refused, not chosen from', () => {
  const body = Buffer.from('user\0a\0database\0x\0database\0y\0\0')
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + body.length, 0)
  head.writeInt32BE(VERSION, 4)
  assert.throws(() => readOpening(Buffer.concat([head, body])), { code: 'ambiguous' })
})

test('rule 11: absurd lengths are refused before anything is collected', () => {
  for (const length of [0, 7, -1, LONGEST_STARTUP + 1, 0x7fffffff]) {
    const head = Buffer.alloc(8)
    head.writeInt32BE(length, 0)
    assert.throws(() => readOpening(head), { name: 'ChaperoneError' })
  }
  assert.throws(() => readPassword(Buffer.from([0x70, 0x7f, 0xff, 0xff, 0xff])), { code: 'malformed' })
})
