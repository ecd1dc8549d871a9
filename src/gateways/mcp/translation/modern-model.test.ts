import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../../../errors.ts'
import { type Asked, type Got, goodAnswers, type Json, locked, type Stage, stage } from './modern-client.fixture.ts'

const METHODS = ['roots/list', 'sampling/createMessage', 'elicitation/create', 'vendor/ask'] as const
const index = fc.nat(5)

/** What can happen next. Indices choose among what there is, modulo how much there is. */
const often = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary })
const how = <const T extends readonly string[]>(...values: T) => fc.constantFrom<T[number]>(...values)
const step = fc.oneof(
  often(2, fc.record({ do: fc.constant('call' as const), capable: fc.boolean(), listed: fc.boolean() })),
  often(4, fc.record({ do: fc.constant('ask' as const), at: index, method: fc.constantFrom(...METHODS), aside: fc.boolean() })),
  often(2, fc.record({ do: fc.constant('progress' as const), at: index })),
  often(1, fc.record({ do: fc.constant('withdraw' as const), at: index })),
  often(2, fc.record({ do: fc.constant('answer' as const), at: index, how: how('result', 'error', 'url') })),
  often(
    5,
    fc.record({
      do: fc.constant('retry' as const),
      at: index,
      how: how('good', 'good', 'good', 'missing', 'malformed', 'decline', 'forged', 'other'),
    }),
  ),
  often(1, fc.record({ do: fc.constant('leave' as const), at: index })),
  often(1, fc.record({ do: fc.constant('cut' as const), at: index })),
  often(1, fc.record({ do: fc.constant('listen' as const) })),
  often(1, fc.record({ do: fc.constant('change' as const) })),
  often(1, fc.record({ do: fc.constant('refuse' as const), on: fc.boolean() })),
  often(5, fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(10, 10, 10, 10, 10, 1000, 20_000) })),
  often(1, fc.record({ do: fc.constant('fall' as const) })),
)
const limits = fc.record({ rounds: fc.constantFrom(1, 2, 8), asks: fc.constantFrom(1, 3, 8) })
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

interface Sent {
  readonly id: string
  /** which call it is, or continues */
  readonly n: number
  readonly method: string
  readonly asked: Asked
}

/** One run: everything that was sent, and what the server was told. */
class Run {
  readonly on: Stage
  readonly sent: Sent[] = []
  readonly got: Got[] = []
  readonly answers: { due: number; had: number } = { due: 0, had: 0 }
  /** results that the server gave, by the call they are for */
  readonly given = new Set<number>()
  #next = 1

  constructor(limits: { readonly rounds: number; readonly asks: number }) {
    this.on = stage({ limits: { ...limits, askMs: 10_000, backoffMs: 1000 }, on: (got) => void this.got.push(got) })
  }

  #pick<T>(from: readonly T[], at: number): T | undefined {
    return from.length === 0 ? undefined : from[at % from.length]
  }
  get #open(): Got[] {
    return this.got.filter(({ signal }) => !signal.aborted)
  }
  #close(got: Got): void {
    this.got.splice(this.got.indexOf(got), 1)
  }

  #request(n: number, method: string, params: Json, capable: boolean): void {
    const id = `r${this.#next++}`
    const asked = this.on.request(method, params, { id, meta: { progressToken: `t-${id}` }, ...(capable ? {} : { capabilities: {} }) })
    this.sent.push({ id, n, method, asked })
  }

  #ask(asking: Promise<Json>): void {
    this.answers.due++
    void asking.then(({ result, error }) => {
      assert.ok((result === undefined) !== (error === undefined))
      this.answers.had++
    })
  }

  async do(step: Step): Promise<void> {
    const { on } = this
    switch (step.do) {
      case 'call': {
        const n = this.#next++
        if (step.listed) this.#request(n, 'tools/list', { cursor: String(n) }, step.capable)
        else this.#request(n, 'tools/call', { name: 'tool', arguments: { n } }, step.capable)
        break
      }
      case 'ask': {
        const got = this.#pick(this.#open, step.at)
        const params = step.method === 'elicitation/create' ? { message: 'm', requestedSchema: {} } : {}
        const outside = on.open[0]
        if (step.aside && outside) this.#ask(outside.ask(step.method, params))
        else if (got) this.#ask(got.ask(step.method, params))
        break
      }
      case 'progress': {
        const got = this.#pick(this.#open, step.at)
        got?.say({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: got.message.params._meta.progressToken, progress: 1 } })
        break
      }
      case 'withdraw':
        this.#pick(this.#open, step.at)?.say({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: step.at } })
        break
      case 'answer': {
        const got = this.#pick(this.#open, step.at)
        if (!got) break
        const n = Number(got.message.params.cursor ?? got.message.params.arguments.n)
        this.#close(got)
        this.given.add(n)
        if (step.how === 'result') got.result({ content: [], n })
        else if (step.how === 'error') got.error(-32000, String(n))
        else got.error(-32042, String(n), { elicitations: [{ mode: 'url', url: 'https://x.example/', message: 'm', elicitationId: 'e' }] })
        break
      }
      case 'retry': {
        const rounds = this.sent.filter(({ asked }) => asked.paper.answers[0]?.result?.resultType === 'input_required')
        // The newest first: those before it are mostly used up.
        const last = this.#pick(rounds.toReversed(), step.at % 3)
        if (!last) break
        const { requestState, inputRequests } = last.asked.paper.answers[0].result
        const answers: Json =
          step.how === 'missing' ? undefined : step.how === 'malformed' || step.how === 'decline' ? {} : goodAnswers(inputRequests)
        if (step.how === 'malformed') for (const key of Object.keys(inputRequests)) answers[key] = 7
        if (step.how === 'decline')
          for (const key of Object.keys(inputRequests)) answers[key] = { action: 'decline', roots: [], role: 'a', model: 'b', content: {} }
        const n = step.how === 'other' ? last.n + 1 : last.n
        const state = step.how === 'forged' ? `${requestState.slice(0, -1)}!` : requestState
        this.#request(n, 'tools/call', { name: 'tool', arguments: { n }, requestState: state, ...(answers ? { inputResponses: answers } : {}) }, true)
        break
      }
      case 'leave':
        this.#pick(this.sent, step.at)?.asked.paper.leave()
        break
      case 'cut':
        this.#pick(this.sent, step.at)?.asked.cut(locked())
        break
      case 'listen':
        this.#request(0, 'subscriptions/listen', { notifications: { toolsListChanged: true } }, true)
        break
      case 'change':
        on.open[0]?.say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
        break
      case 'refuse':
        on.judge = step.on
          ? () => {
              throw locked()
            }
          : () => {}
        break
      case 'wait':
        on.clock.advance(step.ms)
        break
      case 'fall':
        on.open[0]?.fall(new ChaperoneError('upstream_unavailable', 'it fell'))
        break
    }
    await on.settle()
  }

  /** Whatever the server still works on is answered; whoever was to come back does not; then the lane ends. */
  async finish(): Promise<void> {
    const { on } = this
    for (let got = this.#open[0]; got; got = this.#open[0]) await this.do({ do: 'answer', at: 0, how: 'result' })
    for (const ms of [10, 10_000, 10_000]) {
      on.clock.advance(ms)
      await on.settle()
    }
    const calls = this.sent.filter(({ method }) => method !== 'subscriptions/listen')
    assert.deepEqual(
      calls.filter(({ asked }) => asked.end() === undefined),
      [],
      'a request without an end',
    )
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 0, asks: 0 })
    await on.lane.end(new ChaperoneError('draining', 'stop'))
    await on.settle()
    assert.equal(this.answers.had, this.answers.due, 'the server was left without an answer')
    for (const entry of on.asked) assert.ok(entry.outcome, 'a question was never settled')
    for (const one of this.sent) this.#check(one)
  }

  #check({ id, n, method, asked }: Sent): void {
    const end = asked.end()
    assert.ok(end, `${id} has no end`)
    const { answers, notes, gone } = asked.paper
    // Whoever is rejected gets its error from the gateway; whoever is not has exactly one answer.
    if (!gone) assert.equal(answers.length, end instanceof ChaperoneError ? 0 : 1, `${id}: ${JSON.stringify(answers)} ${String(end)}`)
    assert.ok(answers.length <= 1)
    for (const note of notes) {
      if (method === 'subscriptions/listen') assert.equal(note.params._meta['io.modelcontextprotocol/subscriptionId'], id)
      else assert.equal(note.params.progressToken, `t-${id}`)
    }
    if (answers.length === 0) return
    assert.equal(answers[0].id, id)
    const { result, error } = answers[0]
    if (method === 'subscriptions/listen' || result?.resultType === 'input_required') return
    // It is the server's own word for this very call, and was not made up.
    assert.equal(Number(result?.n ?? error.message), n)
    assert.ok(this.given.has(n))
  }
}

test('whatever server and client do, each request is answered once, with its own answer, and nothing stays parked', async () => {
  await fc.assert(
    fc.asyncProperty(limits, fc.array(step, { minLength: 1, maxLength: 40 }), async (bounds, steps) => {
      const run = new Run(bounds)
      await run.do({ do: 'call', capable: true, listed: false })
      for (const one of steps) await run.do(one)
      await run.finish()
    }),
  )
})
