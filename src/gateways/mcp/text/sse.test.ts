import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../../../errors.ts'
import { sseEvent, sseReader } from './sse.ts'

const stream = fc.array(fc.constantFrom('data: {"a":1}', 'data:x', 'data', 'id: 1', 'event: message', ': comment', 'retry: 5', 'odd', '', '\u00e4'), {
  maxLength: 20,
})

/** The same bytes in pieces, as a socket may bring them. */
const pieces = (bytes: Buffer, cuts: readonly number[]): Buffer[] => {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end))
}

test('rule 10: nothing is lost or added, however the bytes are cut and whatever ends the lines', () => {
  fc.assert(
    fc.property(stream, fc.constantFrom('\n', '\r\n', '\r'), fc.array(fc.nat(), { maxLength: 8 }), (lines, newline, cuts) => {
      const bytes = Buffer.from(`${lines.join(newline)}${newline}${newline}`)
      const reader = sseReader(1024)
      const events = pieces(bytes, cuts).flatMap((piece) => reader.push(piece))
      const raw = Buffer.concat(events.map((event) => event.raw))
      // Of a last CRLF the second half may only come with the next event.
      assert.ok(raw.equals(bytes) || (newline === '\r\n' && raw.equals(bytes.subarray(0, -1))))
    }),
  )
})

/** The standard's own words (HTML, section 9.2.6), over the whole text at once. */
function readAtOnce(text: string): string[] {
  const found: string[] = []
  let data: string[] = []
  for (const line of text.split(/\r\n|\n|\r/).slice(0, -1)) {
    if (line === '') {
      if (data.join('\n') !== '') found.push(data.join('\n'))
      data = []
    } else if (line === 'data') data.push('')
    else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''))
  }
  return found
}

test('events say what the standard reads, however the bytes are cut', () => {
  fc.assert(
    fc.property(stream, fc.constantFrom('\n', '\r\n', '\r'), fc.array(fc.nat(), { maxLength: 8 }), (lines, newline, cuts) => {
      const text = `${lines.join(newline)}${newline}${newline}`
      const reader = sseReader(1024)
      const events = pieces(Buffer.from(text), cuts).flatMap((piece) => reader.push(piece))
      assert.deepEqual(
        events.flatMap((event) => event.data ?? []),
        readAtOnce(text),
      )
    }),
  )
})

test('rule 11: an event without end is refused at its limit', () => {
  const reader = sseReader(1000)
  assert.throws(
    () => {
      for (let i = 0; i < 100; i++) reader.push(Buffer.from('data: 0123456789'))
    },
    (error: unknown) => error instanceof ChaperoneError && error.code === 'too_large',
  )
})

test('what we write is read as one event', () => {
  const [event] = sseReader(1024).push(Buffer.from(sseEvent('{"a":1}', '7')))
  assert.deepEqual({ data: event?.data, id: event?.id, plain: event?.plain }, { data: '{"a":1}', id: '7', plain: true })
})
