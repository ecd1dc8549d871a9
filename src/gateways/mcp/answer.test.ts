import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { HttpAnswer } from './answer.ts'

/** What reaches the socket, one entry a write. `full`: its buffer has no more room. */
class Response extends EventEmitter {
  readonly writes: string[] = []
  full = false
  writableEnded = false
  writableFinished = false
  writableLength = 0
  destroyed = false
  get writableNeedDrain() {
    return this.full
  }
  writeHead() {}
  flushHeaders() {}
  write(chunk: Buffer | string) {
    this.writes.push(chunk.toString())
    return !this.full
  }
  end(body?: Buffer | string, encoding?: BufferEncoding) {
    if (body !== undefined) this.writes.push(Buffer.from(body as string, encoding).toString())
    this.writes.push('END')
    this.writableEnded = true
  }
  destroy() {
    this.destroyed = true
    setImmediate(() => this.emit('close'))
  }
}

function opened() {
  const response = new Response()
  const request = { headers: { accept: 'text/event-stream' } } as IncomingMessage
  const answer = new HttpAnswer(request, response as unknown as ServerResponse, manualClock(0), { keepAliveMs: 1000, queueBytes: 1000 })
  return { response, answer }
}

const nextTurn = () => new Promise((go) => setImmediate(go))

test('Events that come in one turn go out in one write, in order, and the end behind them.', async () => {
  const { response, answer } = opened()
  answer.open()
  for (const event of ['a', 'b']) await answer.write(event)
  await nextTurn()
  assert.deepEqual(response.writes, ['ab'])
  void answer.write('c')
  answer.end()
  assert.deepEqual(response.writes, ['ab', 'c', 'END'])
  await nextTurn()
  assert.deepEqual(response.writes, ['ab', 'c', 'END'])
})

test('A large event overtakes no small one.', async () => {
  const { response, answer } = opened()
  answer.open()
  void answer.write('a')
  void answer.write('b'.repeat(20_000))
  void answer.write('c')
  await nextTurn()
  assert.deepEqual(
    response.writes.map((text) => text[0]),
    ['a', 'b', 'c'],
  )
})

test('rule 11: a client that reads slowly is waited for, also with small events, and let go when it reads nothing.', async () => {
  const { response, answer } = opened()
  answer.open()
  await answer.write('a')
  await nextTurn()
  response.full = true
  let went = false
  const written = answer.write('b').then(() => {
    went = true
  })
  await nextTurn()
  assert.equal(went, false)
  response.full = false
  response.emit('drain')
  await written
  response.full = true
  response.writableLength = 1001
  await answer.write('c')
  assert.ok(response.destroyed)
})

test('rule 10: a body arrives byte for byte, whatever its bytes are.', () => {
  const { response, answer } = opened()
  answer.send(200, Buffer.from('grüße 世界'))
  assert.deepEqual(response.writes, ['grüße 世界', 'END'])
})
