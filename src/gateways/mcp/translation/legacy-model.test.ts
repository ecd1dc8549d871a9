import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../../../errors.ts'
import { sseEvent } from '../text/sse.ts'
import { ALL, type Asked, inputRequired, type Json, permitOf, settle, TestAnswer, world } from './legacy-world.fixture.ts'

/** What the server does in one round of a call, after `notes`. */
type End =
  | { readonly end: 'result' | 'error' | 'nothing' | 'garbage' | 'never' | 'mismatch' | 'task' }
  | { readonly end: 'ask'; readonly wishes: readonly ('form' | 'url' | 'sample' | 'roots' | 'foreign')[]; readonly state: boolean }
type Round = { readonly notes: readonly ('mine' | 'foreign' | 'log')[]; readonly wait: number } & End

type Step =
  | { readonly do: 'call'; readonly rounds: readonly Round[]; readonly token: boolean; readonly streams: boolean; readonly id: 'text' | 'number' }
  | { readonly do: 'cancel' | 'leave' | 'cut'; readonly which: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'subscribe' | 'unsubscribe' | 'report'; readonly uri: number }
  | { readonly do: 'stream' | 'unstream' | 'drop' | 'ping' | 'end' }

const ms = fc.constantFrom(0, 1, 400, 30_000, 700_000)
const end: fc.Arbitrary<End> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ end: fc.constantFrom('result', 'error', 'nothing', 'garbage', 'never', 'mismatch', 'task') }) as fc.Arbitrary<End>,
  },
  {
    weight: 4,
    arbitrary: fc.record({
      end: fc.constant('ask' as const),
      wishes: fc.array(fc.constantFrom('form', 'url', 'sample', 'roots', 'foreign'), { maxLength: 3 }),
      state: fc.boolean(),
    }) as fc.Arbitrary<End>,
  },
)
const round = fc
  .tuple(fc.array(fc.constantFrom('mine', 'foreign', 'log'), { maxLength: 3 }), ms, end)
  .map(([notes, wait, how]): Round => ({ notes, wait, ...how }) as Round)
const which = fc.nat(5)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('call' as const),
      rounds: fc.array(round, { minLength: 1, maxLength: 4 }),
      token: fc.boolean(),
      streams: fc.boolean(),
      id: fc.constantFrom('text' as const, 'number' as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('cancel' as const, 'leave' as const, 'cut' as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('wait' as const), ms }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('subscribe' as const, 'unsubscribe' as const, 'report' as const), uri: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('stream' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('unstream' as const, 'drop' as const, 'ping' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('end' as const) }) },
)
const WISHES: Json = {
  form: { method: 'elicitation/create', params: { message: 'Who?' } },
  url: { method: 'elicitation/create', params: { mode: 'url', url: 'https://a.example/' } },
  sample: { method: 'sampling/createMessage', params: {} },
  roots: { method: 'roots/list' },
  foreign: { method: 'tools/list' },
}
/** How the client answers what it is asked. */
const replies = fc.array(fc.record({ how: fc.constantFrom('answer', 'error', 'refused', 'never'), wait: ms }), { minLength: 1, maxLength: 4 })

/** One call as the client sees it. */
interface Made {
  readonly id: string | number
  readonly token: string | undefined
  readonly answer: TestAnswer
  readonly done: Promise<unknown>
  readonly cut: AbortController
  /** cancelled, left or cut: it may have ended before what the server said was through */
  disturbed: boolean
  /** what the server said of it, in order */
  readonly told: string[]
  /** what the server answered at last */
  last: string | undefined
}

test('a random modern server behind the translator, a random legacy client before it: each request is answered exactly once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25, size: '+1' }), replies, async (steps, reply) => {
      const made = new Map<number, Made>()
      const listens: { tell: Asked['tell']; id: unknown; over: boolean; end(): void }[] = []
      let asked = 0
      const sleep = (time: number) => (time === 0 ? undefined : new Promise<void>((wake) => given.clock.at(given.clock.now() + time, wake)))

      const listen = async ({ body, tell, cancelled }: Asked) => {
        const { promise, resolve } = Promise.withResolvers<Json>()
        const one = { tell, id: body.id, over: false, end: () => resolve({ resultType: 'complete' }) }
        listens.push(one)
        void cancelled.then(() => {
          one.over = true
        })
        await tell('notifications/subscriptions/acknowledged', { notifications: body.params.notifications })
        return promise
      }

      const call = async ({ body, tell, headers, answer }: Asked): Promise<Json> => {
        const { rounds, n } = body.params.arguments
        const mine = made.get(n)!
        assert.equal(headers['mcp-name'], `tool ${n}`)
        const at = body.params.requestState === undefined ? 0 : Number(body.params.requestState)
        const now: Round = rounds[at] ?? { notes: [], wait: 0, end: 'result' }
        for (const note of now.notes) {
          const token = note === 'mine' ? mine.token : `not ${mine.token}`
          if (note === 'log') await tell('notifications/message', { level: 'info', data: `${n} ${mine.told.length}` })
          else await tell('notifications/progress', { progressToken: token, progress: mine.told.length })
          if (note === 'log' || (note === 'mine' && token !== undefined)) mine.told.push(note)
        }
        await sleep(now.wait)
        mine.last = now.end
        // Servers say things after their answer, too.
        const late = sseEvent(
          JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: mine.token, progress: -1 } }),
        )
        if (now.end === 'result') setImmediate(() => void answer.write(late))
        switch (now.end) {
          case 'ask':
            // The state says how far it is; without one it begins anew, as a server without memory does.
            return inputRequired(
              Object.fromEntries(now.wishes.map((wish, i) => [`${wish} ${i}`, WISHES[wish]])),
              now.state ? String(at + 1) : undefined,
            )
          case 'result':
            return { resultType: 'complete', content: [], structuredContent: { n } }
          case 'error':
            return { error: { code: -32000 - (n % 10), message: `error of ${n}` } }
          case 'mismatch':
            return { error: { code: -32020, message: 'HeaderMismatch' } }
          case 'task':
            return { resultType: 'task', taskId: String(n) }
          case 'garbage':
            return '{"jsonrpc":"2.0","id":$ID,"result":{"n":1,"n":'
          case 'never':
            return new Promise(() => {})
          case 'nothing':
            return undefined
        }
      }

      const given = world({
        limits: { rounds: 3, askMs: 600_000, drainMs: 60_000 },
        script: (one) => {
          if (one.body.method === 'subscriptions/listen') return listen(one)
          if (one.body.method === 'tools/list') return { resultType: 'complete', tools: [] }
          return call(one)
        },
        answers: async (method) => {
          const { how, wait } = reply[asked++ % reply.length]!
          await sleep(wait)
          if (how === 'never') return new Promise(() => {})
          if (how === 'refused') return new ChaperoneError('denied_by_rule', 'No.')
          if (how === 'error') return { error: { code: -1, message: 'no' } }
          return method === 'elicitation/create' ? { action: 'accept', content: {} } : {}
        },
      })
      await given.open(ALL)
      const streams: TestAnswer[] = []
      const local: ReturnType<typeof given.request>[] = []
      let reports = 0
      let over = false

      for (const one of steps) {
        switch (one.do) {
          case 'call': {
            const n = made.size
            const id = one.id === 'text' ? `call ${n}` : 1000 + n
            const token = one.token ? `token ${n}` : undefined
            const answer = new TestAnswer(one.streams)
            const cut = new AbortController()
            const mine: Made = { id, token, answer, cut, disturbed: false, told: [], last: undefined, done: Promise.resolve() }
            made.set(n, mine)
            const params = {
              name: `tool ${n}`,
              arguments: { n, rounds: one.rounds },
              ...(token === undefined ? {} : { _meta: { progressToken: token } }),
            }
            Object.assign(mine, { done: given.request('tools/call', params, { id, answer, permit: permitOf(cut.signal) }) })
            break
          }
          case 'cancel':
          case 'leave':
          case 'cut': {
            const mine = made.get(one.which % Math.max(made.size, 1))
            if (!mine) break
            if (!mine.answer.over) mine.disturbed = true
            if (one.do === 'cancel') await given.notify('notifications/cancelled', { requestId: mine.id })
            else if (one.do === 'leave') mine.answer.leave()
            else mine.cut.abort(new ChaperoneError('locked', 'A lock stops this.'))
            await settle()
            // Neither waits for the server or for a person.
            if (one.do !== 'leave') assert.ok(mine.answer.over)
            break
          }
          case 'wait':
            given.clock.advance(one.ms)
            break
          case 'subscribe':
          case 'unsubscribe':
            local.push(given.request(`resources/${one.do}`, { uri: `a:${one.uri}` }, { id: `local ${local.length}` }))
            break
          case 'ping':
            local.push(given.request('ping', undefined, { id: `local ${local.length}` }))
            break
          case 'report':
            // Also on those that were left: what is on its way then must not come twice.
            reports++
            for (const { tell, id } of listens)
              await tell('notifications/resources/updated', {
                uri: `a:${one.uri}`,
                n: reports,
                _meta: { 'io.modelcontextprotocol/subscriptionId': id },
              })
            break
          case 'stream':
            if (streams.filter((stream) => !stream.gone && !stream.over).length < given.limits.streams) streams.push(given.stream())
            break
          case 'unstream':
            streams.findLast((stream) => !stream.gone)?.leave()
            break
          case 'drop':
            listens.at(-1)?.end()
            break
          case 'end':
            over = true
            for (const mine of made.values()) if (!mine.answer.over) mine.disturbed = true
            await given.upstream.end(new ChaperoneError('draining', 'over'))
            break
        }
        await settle()
      }
      // Whatever waits for time gets it, in steps so that what is armed meanwhile rings too; what never answers is ended.
      for (let i = 0; i < 12; i++) {
        given.clock.advance(700_000)
        await settle()
      }
      for (const mine of made.values()) if (!mine.answer.over) mine.disturbed = true
      await given.upstream.end(new ChaperoneError('draining', 'over'))
      await settle()
      check([...made.values()], local, streams, over)
      assert.deepEqual(
        given.logs.filter(({ what }) => !['mcp.subscription', 'mcp.subscription.stray'].includes(what)),
        [],
      )
    }),
  )
})

function check(calls: readonly Made[], local: readonly { answer: TestAnswer }[], streams: readonly TestAnswer[], over: boolean): void {
  for (const [n, mine] of calls.entries()) {
    const { answer } = mine
    assert.deepEqual(answer.wrong, [])
    assert.ok(answer.over, `call ${n} is never answered`)
    const responses = answer.messages.filter((message) => !('method' in message))
    if (!answer.gone || answer.began === 'body') assert.equal(responses.length, 1)
    assert.ok(responses.length <= 1)
    if (responses.length === 0) continue
    const response = responses[0]
    assert.equal(answer.messages.at(-1), response)
    assert.equal(response.id, mine.id)
    assert.notEqual(response.error?.data?.reason, 'internal')
    for (const message of answer.messages) if (message.method === 'notifications/progress') assert.equal(message.params.progressToken, mine.token)
    // Nothing invented: a result is the one that the server gave for this very call, or says that it is ours.
    if (response.result && !response.result.isError) assert.deepEqual(response.result.structuredContent, { n })
    if (response.error && response.error.data?.origin !== 'proxy') assert.equal(response.error.message, `error of ${n}`)
    if (mine.disturbed || over) continue
    // Nothing lost.
    if (mine.last === 'result') assert.deepEqual(response.result?.structuredContent, { n })
    if (mine.last === 'error') assert.equal(response.error?.message, `error of ${n}`)
    const notes = answer.messages.filter(({ method }) => method === 'notifications/progress' || method === 'notifications/message')
    if (answer.streams) assert.equal(notes.length, mine.told.length)
  }
  for (const { answer } of local) {
    assert.deepEqual(answer.wrong, [])
    assert.equal(answer.messages.length, 1)
  }
  // Each report came to one stream, without the id of a subscription, and no older one after a newer one.
  const seen = streams.flatMap((stream) => stream.messages.map((message) => message.params.n as number))
  assert.equal(new Set(seen).size, seen.length)
  for (const stream of streams) {
    assert.deepEqual(stream.wrong, [])
    for (const { params } of stream.messages) assert.equal(params._meta, undefined)
  }
}
