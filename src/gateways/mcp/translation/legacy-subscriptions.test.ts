import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { type Asked, type Json, permitOf, settle, type WorldOptions, world } from './legacy-world.fixture.ts'

const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId'
const LISTS = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true }

/** A server whose subscriptions are in our hands. */
function listening(options: WorldOptions & { honour?: (filter: Json) => Json; answer?: (asked: Asked) => Json } = {}) {
  const open: { filter: Json; tell(method: string, params?: Json): Promise<void>; end(result?: Json): void; readonly over: boolean }[] = []
  const given = world({
    ...options,
    async script(asked) {
      if (asked.body.method !== 'subscriptions/listen') return { resultType: 'complete' }
      const refused = options.answer?.(asked)
      if (refused) return refused
      const { notifications: filter } = asked.body.params
      const _meta = { [SUBSCRIPTION]: asked.body.id }
      const { promise, resolve } = Promise.withResolvers<Json>()
      const one = {
        filter,
        over: false,
        tell: (method: string, params: Json = {}) => asked.tell(method, { ...params, _meta: { ...params._meta, ..._meta } }),
        end: (result: Json = { resultType: 'complete', _meta }) => resolve(result),
      }
      open.push(one)
      void asked.cancelled.then(() => {
        one.over = true
      })
      await one.tell('notifications/subscriptions/acknowledged', { notifications: options.honour?.(filter) ?? filter })
      return promise
    },
  })
  return { ...given, listens: open }
}

test('a standalone stream gets what one subscription upstream reports, without its id', async () => {
  const { open, stream, listens, errands } = listening()
  await open()
  const answer = stream()
  await settle()
  assert.equal(answer.began, 'stream')
  assert.deepEqual(listens[0]!.filter, LISTS)
  assert.equal(errands.at(-1).method, 'subscriptions/listen')
  await listens[0]!.tell('notifications/tools/list_changed')
  await listens[0]!.tell('notifications/prompts/list_changed', { _meta: { kept: 1 } })
  await listens[0]!.tell('notifications/tasks', {})
  await listens[0]!.tell('notifications/resources/updated', { uri: 'a:1' })
  assert.deepEqual(answer.messages, [
    { jsonrpc: '2.0', method: 'notifications/tools/list_changed', params: {} },
    { jsonrpc: '2.0', method: 'notifications/prompts/list_changed', params: { _meta: { kept: 1 } } },
  ])
  answer.leave()
  assert.deepEqual(await answer.done, { status: 'ok' })
})

test('a changed set of resources is a new subscription, and the old one ends when the new one is acknowledged', async () => {
  const { open, stream, request, listens } = listening()
  await open()
  const answer = stream()
  await settle()
  assert.deepEqual((await request('resources/subscribe', { uri: 'a:1' }).response).result, {})
  assert.deepEqual(listens[1]!.filter, { ...LISTS, resourceSubscriptions: ['a:1'] })
  await settle()
  assert.deepEqual(
    listens.map(({ over }) => over),
    [true, false],
  )
  await listens[1]!.tell('notifications/resources/updated', { uri: 'a:1' })
  assert.deepEqual(answer.messages, [{ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri: 'a:1' } }])
  // What was on its way on the old one has come on the new one too.
  await listens[0]!.tell('notifications/resources/updated', { uri: 'a:1' })
  assert.equal(answer.messages.length, 1)
  await request('resources/subscribe', { uri: 'a:1' })
  assert.equal(listens.length, 2)
  await Promise.all([request('resources/subscribe', { uri: 'a:2' }), request('resources/unsubscribe', { uri: 'a:1' })])
  assert.deepEqual(listens.at(-1)!.filter.resourceSubscriptions, ['a:2'])
  assert.deepEqual((await request('resources/unsubscribe', { uri: 'a:2' }).response).result, {})
  assert.deepEqual(listens.at(-1)!.filter, LISTS)
  await settle()
  assert.equal(listens.filter(({ over }) => !over).length, 1)
})

test('without a stream only the newest of each kind is kept', async () => {
  const { open, stream, request, listens } = listening()
  await open()
  await request('resources/subscribe', { uri: 'a:1' })
  const { tell } = listens[0]!
  await tell('notifications/resources/updated', { uri: 'a:1', n: 1 })
  await tell('notifications/tools/list_changed')
  await tell('notifications/resources/updated', { uri: 'a:1', n: 2 })
  for (let i = 0; i < 100; i++) await tell('notifications/resources/updated', { uri: `b:${i}` })
  await tell('notifications/resources/updated', { uri: 'a:1', n: 3 })
  const answer = stream()
  await settle()
  assert.equal(answer.messages.length, 64)
  assert.equal(answer.messages.filter(({ params }) => params.uri === 'a:1').length, 1)
  assert.equal(answer.messages.at(-1).params.n, 3)
  // To one stream, not to both.
  const second = stream()
  await tell('notifications/tools/list_changed')
  assert.equal(answer.messages.length, 64)
  assert.equal(second.messages.length, 1)
  second.leave()
  await tell('notifications/tools/list_changed')
  assert.equal(answer.messages.length, 65)
})

test('what a server does not offer or honour is an error to who subscribes', async () => {
  const { open, request } = listening({ honour: () => ({}) })
  await open()
  assert.equal((await request('resources/subscribe', { uri: 'a:1' }).response).error.code, -32602)
  const without = listening()
  without.server.script = () => ({ supportedVersions: ['2026-07-28'], capabilities: { resources: {} } })
  await without.open()
  assert.equal((await without.request('resources/subscribe', { uri: 'a:1' }).response).error.code, -32601)
  const quiet = without.stream()
  await settle()
  assert.equal(quiet.began, 'stream')
  assert.equal(without.server.received.length, 1)
})

test('a subscription that is not acknowledged does not hold the client for ever', async () => {
  const { open, request, clock, limits } = listening({ answer: () => new Promise(() => {}) })
  await open()
  const { response } = request('resources/subscribe', { uri: 'a:1' })
  await settle()
  clock.advance(limits.startMs)
  assert.equal((await response).error.data.reason, 'upstream_timeout')
})

test('a subscription that ends is opened again, at once and then ever later, while the session lives', async () => {
  const { open, stream, listens, clock, upstream } = listening()
  /** How many there are after so much time. */
  const after = async (ms: number) => {
    await settle()
    clock.advance(ms)
    await settle()
    return listens.length
  }
  await open()
  const answer = stream()
  await settle()
  listens[0]!.end()
  assert.equal(await after(0), 2)
  await listens[1]!.tell('notifications/tools/list_changed')
  assert.equal(answer.messages.length, 1)
  listens[1]!.end({ error: { code: -32000, message: 'restarting' } })
  assert.equal(await after(499), 2)
  assert.equal(await after(1), 3)
  listens[2]!.end()
  assert.equal(await after(999), 3)
  assert.equal(await after(1), 4)
  clock.advance(60_000)
  // Over stdio an end may be said so, with nothing behind it.
  await listens[3]!.tell('notifications/cancelled', { requestId: 'it' })
  assert.equal(await after(0), 5)
  listens[4]!.end()
  await upstream.end(new ChaperoneError('draining', 'over'))
  assert.equal(await after(3_600_000), 5)
  assert.match(String(await answer.done), /over/)
})

test('a server without the method is not asked again; a refusal is', async () => {
  let refused = 0
  const known = listening({ answer: () => ({ error: { code: -32601, message: 'Method not found' } }) })
  await known.open()
  known.stream()
  await settle()
  known.clock.advance(3_600_000)
  await settle()
  assert.equal(known.server.received.length, 2)

  const denied = listening({
    refuse: (message) => {
      if (message.method === 'subscriptions/listen' && refused++ < 2) throw new ChaperoneError('denied_by_rule', 'No.')
    },
  })
  await denied.open()
  denied.stream()
  await settle()
  assert.equal(denied.listens.length, 0)
  denied.clock.advance(0)
  await settle()
  denied.clock.advance(500)
  await settle()
  assert.equal(denied.listens.length, 1)
})

test('rule 9: what the client may not hear of is not delivered, and no longer subscribed to', async () => {
  const hidden = new Set<string>()
  const { open, stream, request, listens } = listening({ told: ({ text }) => ![...hidden].some((uri) => text.includes(uri)) })
  await open()
  const answer = stream()
  await request('resources/subscribe', { uri: 'a:1' })
  await request('resources/subscribe', { uri: 'a:2' })
  hidden.add('a:1')
  await listens.at(-1)!.tell('notifications/resources/updated', { uri: 'a:1' })
  await listens.at(-1)!.tell('notifications/resources/updated', { uri: 'a:2' })
  assert.deepEqual(
    answer.messages.map(({ params }) => params.uri),
    ['a:2'],
  )
  await request('resources/subscribe', { uri: 'a:3' })
  assert.deepEqual(listens.at(-1)!.filter.resourceSubscriptions, ['a:2', 'a:3'])
})

test('streams are limited, and end with the permit', async () => {
  const { open, stream, limits } = listening()
  await open()
  const permit = new AbortController()
  const first = stream(permitOf(permit.signal))
  for (let i = 1; i < limits.streams; i++) stream()
  assert.match(String(await stream().done), /too many open streams/)
  permit.abort(new ChaperoneError('locked', 'A lock stops this.'))
  assert.match(String(await first.done), /lock/)
  assert.equal(stream().began, 'stream')
})
