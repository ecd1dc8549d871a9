import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ChaperoneError } from '../../../errors.ts'
import { readBind, readExecute, readParse, readQuery, readTarget } from './client.ts'
import { FROM_CLIENT, FROM_SERVER } from './codes.ts'
import { readFirstPacket } from './first-packet.ts'
import { ClientFramer } from './framer.ts'
import { ServerScanner } from './scanner.ts'
import { readErrorFields } from './server.ts'
import { cancelRequest, commandComplete, errorMessage, parseMessage, queryMessage, readyForQuery, startupPacket } from './write.ts'

const frame = (type: number, body: Buffer) => {
  const bytes = Buffer.alloc(5 + body.length)
  bytes[0] = type
  bytes.writeInt32BE(body.length + 4, 1)
  body.copy(bytes, 5)
  return bytes
}

/** Cuts the bytes at the given places, whatever they are. */
const cut = (bytes: Buffer, places: readonly number[]): Buffer[] => {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length)).filter((part) => part.length > 0)
}

const clientTypes = Object.values(FROM_CLIENT)
const anyClientFrame = fc
  .tuple(fc.constantFrom(...clientTypes), fc.uint8Array({ maxLength: 200 }))
  .map(([type, body]) => frame(type, Buffer.from(body)))
const places = fc.array(fc.nat(), { maxLength: 12 })

test("a client's messages come out whole and in order, however the bytes are cut", () => {
  fc.assert(
    fc.property(fc.array(anyClientFrame, { maxLength: 20 }), places, (frames, where) => {
      const framer = new ClientFramer()
      const out: Buffer[] = []
      for (const chunk of cut(Buffer.concat(frames), where)) {
        framer.push(chunk)
        for (let message = framer.next(); message; message = framer.next()) out.push(message.frame)
      }
      assert.deepEqual(Buffer.concat(out), Buffer.concat(frames))
      assert.equal(out.length, frames.length)
      assert.equal(framer.held, 0)
    }),
  )
})

test('whatever bytes come, the framer gives messages or a ChaperoneError, and holds no more than one message', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 }), (chunks) => {
      const framer = new ClientFramer({ statementBytes: 100, messageBytes: 1000 })
      try {
        for (const chunk of chunks) {
          framer.push(Buffer.from(chunk))
          while (framer.next());
          assert.ok(framer.held <= 2000)
        }
      } catch (error) {
        assert.match((error as ChaperoneError).code, /^(malformed|too_large)$/)
      }
    }),
  )
})

test('whatever a message holds, reading it gives a value or a ChaperoneError', () => {
  const readers = [readQuery, readParse, readBind, readTarget, readExecute]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...readers), (body, read) => {
      try {
        read(frame(0x51, Buffer.from(body)))
      } catch (error) {
        assert.equal((error as ChaperoneError).code, 'malformed')
      }
    }),
  )
})

test('counts are read as the server reads them, up to 65,535', () => {
  const count = 65_535
  const int16 = Buffer.from([0xff, 0xff])
  const each = Buffer.alloc(count * 4, 0)
  const bytes = frame(0x42, Buffer.concat([Buffer.from('\0s\0'), Buffer.alloc(2), int16, each, Buffer.alloc(2)]))
  assert.equal(readBind(bytes).values.length, count)
  // No formats to whoever reads a negative number here; to the server 65,535 of them, and other values behind.
  const twoWays = frame(0x42, Buffer.concat([Buffer.from('\0s\0'), int16, Buffer.from([0, 1, 0, 0, 0, 1, 0x61, 0, 0])]))
  assert.throws(() => readBind(twoWays), { code: 'malformed' })
  assert.equal(readParse(frame(0x50, Buffer.concat([Buffer.from('\0x\0'), int16, each]))).types.length, count)
})

test('rule 11: a message that comes byte by byte is not kept byte by byte', () => {
  const framer = new ClientFramer()
  const bytes = queryMessage('x'.repeat(100_000))
  for (const byte of bytes.subarray(0, -1)) framer.push(Buffer.from([byte]))
  assert.ok(framer.pieces < 50, String(framer.pieces))
  framer.push(bytes.subarray(-1))
  assert.deepEqual(framer.next()?.frame, bytes)
})

test('absurd lengths end the connection with a clear error', () => {
  for (const [length, code] of [
    [-1, 'malformed'],
    [0, 'malformed'],
    [3, 'malformed'],
    [0x7fffffff, 'too_large'],
  ] as const) {
    const framer = new ClientFramer()
    const bytes = Buffer.alloc(5)
    bytes.write('Q')
    bytes.writeInt32BE(length, 1)
    framer.push(bytes)
    assert.throws(() => framer.next(), { code })
  }
  const framer = new ClientFramer()
  framer.push(Buffer.from('%\0\0\0\x04'))
  assert.throws(() => framer.next(), { code: 'malformed' })
})

test('a text over its limit is skipped, and the next message is read', () => {
  const framer = new ClientFramer({ statementBytes: 1000, messageBytes: 1_000_000 })
  const long = queryMessage('x'.repeat(100_000))
  const out: { type: number; oversized: boolean }[] = []
  for (let at = 0; at < long.length; at += 777) {
    framer.push(long.subarray(at, at + 777))
    for (let message = framer.next(); message; message = framer.next()) out.push(message)
    assert.ok(framer.held < 2000)
  }
  framer.push(queryMessage('select 1'))
  out.push(framer.next()!)
  assert.deepEqual(
    out.map(({ oversized }) => oversized),
    [true, false],
  )
})

test('NUL inside SQL, texts that are not UTF-8, and anything after the end are refused', () => {
  assert.equal(readQuery(queryMessage('select 1')), 'select 1')
  for (const body of ['select 1\0; drop table x\0', 'select 1', '\xff\xfe\0', 'select 1\0 ']) {
    assert.throws(() => readQuery(frame(0x51, Buffer.from(body, 'latin1'))), { code: 'malformed' }, body)
  }
  assert.deepEqual(readParse(parseMessage('a', 'select $1')), { name: 'a', text: 'select $1', types: [] })
  for (const body of ['a\0select 1\0; drop\0\0\0', 'a\0select 1\0\0\x02\0\0\0\0', 'a\0select 1\0', 'a\0select 1\0\xff\xff']) {
    assert.throws(() => readParse(frame(0x50, Buffer.from(body, 'latin1'))), { code: 'malformed' }, body)
  }
})

test('Bind gives its values back', () => {
  const value = fc.option(
    fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
    { nil: null },
  )
  fc.assert(
    fc.property(fc.array(value, { maxLength: 8 }), fc.constantFrom('none', 'one', 'each'), (values, formats) => {
      const int16 = (n: number) => Buffer.from([n >> 8, n & 255])
      const int32 = (n: number) => {
        const bytes = Buffer.alloc(4)
        bytes.writeInt32BE(n)
        return bytes
      }
      const codes = formats === 'none' ? [] : formats === 'one' ? [1] : values.map((_, i) => i % 2)
      const body = Buffer.concat([
        Buffer.from('p\0s\0'),
        int16(codes.length),
        ...codes.map(int16),
        int16(values.length),
        ...values.map((bytes) => (bytes === null ? int32(-1) : Buffer.concat([int32(bytes.length), bytes]))),
        int16(0),
      ])
      const bound = readBind(frame(0x42, body))
      assert.deepEqual(bound.values, values)
      assert.deepEqual(
        values.map((_, i) => bound.isBinary(i)),
        values.map((_, i) => (formats === 'none' ? false : formats === 'one' ? true : i % 2 === 1)),
      )
      if (body.length > 12) assert.throws(() => readBind(frame(0x42, body.subarray(0, -1))), { code: 'malformed' })
    }),
  )
})

test('the first packet is read in one way only', () => {
  const packet = startupPacket({ user: 'a', database: 'b' })
  for (let length = 0; length < packet.length; length++) assert.equal(readFirstPacket(packet.subarray(0, length)), undefined)
  const read = readFirstPacket(Buffer.concat([packet, Buffer.from('x')]))
  assert.deepEqual([read?.packet.kind, read?.size], ['startup', packet.length])
  assert.deepEqual(readFirstPacket(cancelRequest(7, Buffer.from('abcd')))?.packet, { kind: 'cancel', process: 7, secret: Buffer.from('abcd') })
  const raw = (body: string) => {
    const bytes = Buffer.from(`\0\0\0\0${body}`, 'latin1')
    bytes.writeInt32BE(bytes.length)
    return bytes
  }
  assert.throws(() => readFirstPacket(raw('\0\x03\0\0user\0a\0user\0b\0\0')), { code: 'ambiguous' })
  assert.throws(() => readFirstPacket(raw('\0\x03\0\0user\0a\0\0more')), { code: 'malformed' })
  assert.throws(() => readFirstPacket(raw('\0\x03\0\0user\0')), { code: 'malformed' })
  assert.throws(() => readFirstPacket(raw('\0\x02\0\0')), { code: 'unsupported' })
  assert.throws(() => readFirstPacket(Buffer.from('GET / HTTP/1.1\r\n')), { code: 'malformed' })
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        readFirstPacket(Buffer.from(bytes))
      } catch (error) {
        assert.match((error as ChaperoneError).code, /^(malformed|ambiguous|unsupported)$/)
      }
    }),
  )
})

const serverFrame = fc
  .tuple(fc.constantFrom(...Object.values(FROM_SERVER)), fc.uint8Array({ maxLength: 100 }))
  .map(([type, body]) => frame(type, Buffer.from(body)))

test("rule 10: a server's bytes go through unchanged, and every message is seen once, however they are cut", () => {
  fc.assert(
    fc.property(fc.array(serverFrame, { maxLength: 20 }), places, (frames, where) => {
      const scanner = new ServerScanner()
      const out: Buffer[] = []
      const types: number[] = []
      const visitor = {
        see(type: number, whole: Buffer | undefined) {
          types.push(type)
          if (whole) assert.deepEqual(whole, frames[types.length - 1])
          return 'keep' as const
        },
        emit: (bytes: Buffer) => out.push(Buffer.from(bytes)),
      }
      for (const chunk of cut(Buffer.concat(frames), where)) scanner.push(chunk, visitor)
      assert.deepEqual(Buffer.concat(out), Buffer.concat(frames))
      assert.deepEqual(
        types,
        frames.map((bytes) => bytes[0]),
      )
      assert.equal(scanner.midMessage, false)
    }),
  )
})

test('messages that are dropped, replaced or asked for whole leave no byte behind, however they are cut', () => {
  fc.assert(
    fc.property(
      fc.array(serverFrame, { maxLength: 20 }),
      places,
      fc.array(fc.constantFrom('keep', 'drop', 'replace', 'whole, then keep', 'whole, then drop', 'whole, then replace'), {
        minLength: 20,
        maxLength: 20,
      }),
      (frames, where, fates) => {
        const scanner = new ServerScanner()
        const out: Buffer[] = []
        const replacement = errorMessage({ severity: 'ERROR', sqlstate: '42501', message: 'no' })
        let seen = 0
        const visitor = {
          see(_: number, whole: Buffer | undefined, size: number) {
            assert.equal(size, frames[seen]!.length)
            const fate = fates[seen]!
            if (!whole && fate.startsWith('whole')) return 'whole'
            if (whole) assert.deepEqual(whole, frames[seen])
            seen++
            return fate.endsWith('replace') ? replacement : fate.endsWith('drop') ? 'drop' : 'keep'
          },
          emit: (bytes: Buffer) => out.push(Buffer.from(bytes)),
        } as const
        for (const chunk of cut(Buffer.concat(frames), where)) scanner.push(chunk, visitor)
        const expected = frames.map((bytes, i) =>
          fates[i]!.endsWith('drop') ? Buffer.alloc(0) : fates[i]!.endsWith('replace') ? replacement : bytes,
        )
        assert.deepEqual(Buffer.concat(out), Buffer.concat(expected))
        assert.equal(seen, frames.length)
      },
    ),
  )
})

test('a server that sends what is no message ends the connection', () => {
  for (const bytes of [Buffer.from('\0\0\0\0\x04'), Buffer.from('C\0\0\0\x03'), Buffer.from('C\x7f\xff\xff\xff', 'latin1')]) {
    assert.throws(() => new ServerScanner().push(bytes, { see: () => 'keep', emit: () => {} }), /cannot be read|over the limit/)
  }
})

test('errors are written as clients read them', () => {
  const fields = readErrorFields(errorMessage({ severity: 'ERROR', sqlstate: '42501', message: 'a\0b', detail: 'why', hint: 'ask' }))
  assert.deepEqual(
    [...fields],
    [
      ['S', 'ERROR'],
      ['V', 'ERROR'],
      ['C', '42501'],
      ['M', 'ab'],
      ['D', 'why'],
      ['H', 'ask'],
      ['R', 'chaperone'],
    ],
  )
  assert.equal(commandComplete('SELECT 1').toString('latin1'), 'C\0\0\0\rSELECT 1\0')
  assert.equal(readyForQuery('T').toString('latin1'), 'Z\0\0\0\x05T')
})
