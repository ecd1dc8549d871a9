import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { EventStreamReader } from './event-stream.ts'

test('however the bytes are cut, the same events come out', () => {
  const text = ': hello\r\n\r\nid: 7\nretry: 250\ndata: {"a":1}\n\ndata:two\rdata: lines\r\rdata: {"é":"✓"}\n\nevent: x\ndata\n\n'
  const expected = [{ id: '7', retry: 250, data: '{"a":1}' }, { data: 'two\nlines' }, { data: '{"é":"✓"}' }, { data: '', event: 'x' }]
  const bytes = Buffer.from(text)
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 12 }), (cuts) => {
      const reader = new EventStreamReader()
      const edges = [0, ...cuts.sort((a, b) => a - b), bytes.length]
      const events = edges.slice(1).flatMap((end, i) => reader.push(bytes.subarray(edges[i], end)))
      assert.deepEqual(events, expected)
    }),
  )
})

test('an unfinished event is not an event', () => {
  assert.deepEqual(new EventStreamReader().push(Buffer.from('data: half\n')), [])
})

test('rule 11: an event without an end is refused at its limit, not collected', () => {
  const reader = new EventStreamReader()
  const block = Buffer.alloc(4 * 1024 * 1024, 0x61)
  assert.throws(
    () => {
      for (let i = 0; i < 10; i++) reader.push(block)
    },
    { code: 'too_large' },
  )
})
