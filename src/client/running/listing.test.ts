import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Ask, DataPlane } from '../data-plane.ts'
import { LISTING, listTools } from './listing.ts'

const plane = (answer: (ask: Ask, asked: { readonly server: string; readonly cursor?: string }) => Promise<IncomingMessage>) => {
  const asked: string[] = []
  const send: DataPlane['send'] = (ask) => {
    const { cursor } = JSON.parse(String(ask.body)).params
    asked.push(`${ask.path}${cursor === undefined ? '' : ` ${cursor}`}`)
    return answer(ask, { server: ask.path.slice('/mcp/'.length), cursor })
  }
  return { send, asked }
}
const answered = (status: number, type: string, text: string) =>
  Promise.resolve(Object.assign(Readable.from([Buffer.from(text)]), { statusCode: status, headers: { 'content-type': type } }) as IncomingMessage)
const json = (value: object) => answered(200, 'application/json', JSON.stringify({ jsonrpc: '2.0', id: 1, ...value }))
const never = ({ signal }: Ask) => new Promise<IncomingMessage>((_, fail) => signal?.addEventListener('abort', () => fail(signal.reason)))

test('all pages are asked for, as JSON or as a stream; what refuses says why', async () => {
  const { send, asked } = plane((_, { server, cursor }) => {
    if (server === 'paged') return json({ result: { tools: [], ...(cursor === undefined ? { nextCursor: 'b' } : {}) } })
    if (server === 'streamed')
      return answered(
        200,
        'text/event-stream',
        ': hello\n\ndata: {"jsonrpc":"2.0","method":"x"}\n\ndata: {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}\n\n',
      )
    if (server === 'login') return json({ error: { code: -32042, message: 'Sign in first.' } })
    return answered(502, 'text/html', '<h1>')
  })
  const unknown = await listTools({ send }, ['paged', 'streamed', 'login', 'broken'])
  assert.deepEqual([...unknown.keys()].sort(), ['broken', 'login'])
  assert.equal(unknown.get('login')!.message, 'Sign in first.')
  assert.deepEqual(asked, ['/mcp/paged', '/mcp/streamed', '/mcp/login', '/mcp/broken', '/mcp/paged b'])
})

test('a list without an end is left after some pages', async () => {
  const { send, asked } = plane(() => json({ result: { nextCursor: 'again' } }))
  assert.equal((await listTools({ send }, ['endless'])).size, 0)
  assert.equal(asked.length, LISTING.pages)
})

test('a start waits for all of them together, once: who does not answer is named, and beyond so many nobody is asked', async () => {
  const clock = manualClock(0)
  const { send, asked } = plane((ask, { server }) => (server === 's1' ? json({ result: {} }) : never(ask)))
  const names = Array.from({ length: LISTING.servers + 2 }, (_, i) => `s${i}`)
  const listing = listTools({ send }, names, clock)
  clock.advance(LISTING.ms - 1)
  const early = await Promise.race([listing, new Promise((done) => setImmediate(() => done('still waiting')))])
  assert.equal(early, 'still waiting')
  clock.advance(1)
  const unknown = await listing
  assert.equal(asked.length, LISTING.servers)
  assert.equal(unknown.size, names.length - 1)
  assert.match(unknown.get('s0')!.message, /did not answer within 3 s/)
  assert.match(unknown.get(`s${LISTING.servers}`)!.message, /at most 20/)
  assert.ok(unknown.get('s0') instanceof ChaperoneError)
})
