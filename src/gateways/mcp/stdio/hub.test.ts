import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { MCP_LIMITS } from '../limits.ts'
import type { Asker } from '../types.ts'
import type { Child, Ended } from './child.ts'
import type { Member } from './flight.ts'
import { Hub } from './hub.ts'
import { permitWith, read, TestAnswer } from './stdio.fixture.ts'

const gone = new ChaperoneError('session_ended', 'gone')
const pick = <T>(from: readonly T[], which: number): T | undefined => from[which % Math.max(1, from.length)]
const turn = () => new Promise((resolve) => setImmediate(resolve))

interface Asked {
  readonly member: number
  readonly id: number | string
  readonly answer: TestAnswer
  readonly abort: AbortController
  done: 'no' | 'ok' | 'failed'
  settled: number
}

/** A hub over a server that says only what a test lets it say. */
function world(era: 'legacy' | 'modern', share: 'identity' | 'everybody' = 'identity') {
  const clock = manualClock(1_000_000)
  const sent: { id?: number; method: string }[] = []
  let line: (text: string) => void = () => {}
  let ended: (why: ChaperoneError, facts: Ended) => void = () => {}
  const write = (text: string) => sent.push(JSON.parse(text))
  const hub = new Hub({
    name: 's',
    era,
    share,
    clock,
    limits: MCP_LIMITS,
    log() {},
    async start(on) {
      line = on.line
      ended = on.ended
      return { send: (_, text) => write(text), answer: write, stop: async () => {}, gone: Promise.resolve() } as Partial<Child> as Child
    },
    over() {},
    quiet() {},
    async left() {},
  })
  /** `slow`: looking at what it is answered takes a while. */
  const member = (slow = false): Member & { heard: string[]; lostBy: ChaperoneError[] } => {
    const one = {
      asker: {
        answered: (_, text) => (slow ? turn().then(() => text) : text),
        required: (_, text) => text,
        told: () => true,
        asked: async () => '{}',
      } as Partial<Asker> as Asker,
      closed: undefined,
      heard: [] as string[],
      lostBy: [] as ChaperoneError[],
      deliver: (text: string) => void one.heard.push(text),
      lost: (why: ChaperoneError) => void one.lostBy.push(why),
    }
    return one
  }
  return {
    hub,
    clock,
    sent,
    member,
    say: (message: object) => line(JSON.stringify({ jsonrpc: '2.0', ...message })),
    end: () => ended(new ChaperoneError('upstream_unavailable', 'ended'), { reason: 'crashed', code: 1, signal: null, stopped: false, stderr: '' }),
  }
}

describe('a process that several sessions share, whatever happens in whatever order', () => {
  const which = fc.nat({ max: 40 })
  const person = fc.nat({ max: 3 })
  const id = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constantFrom('x', '1'))
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('ask' as const),
        which,
        person,
        id,
        method: fc.constantFrom('tools/list', 'initialize', 'prompts/list'),
      }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('answer' as const), which, fail: fc.nat({ max: 9 }), times: fc.constantFrom(1, 1, 1, 2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), which, person }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('join' as const), which, person }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const), which }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('go' as const), which }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), which, person, id }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), which, ms: fc.constantFrom(1_000, 70_000) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('progress' as const), which }) },
  )

  for (const era of ['legacy', 'modern'] as const) {
    test(`${era}: no answer to the wrong session, none lost, each request ends exactly once, nothing after a session has left`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), async (steps) => {
          const given = world(era)
          const people: (ReturnType<typeof given.member> | undefined)[] = [0, 1, 2, 3].map((n) => given.member(n % 2 === 1))
          for (const one of people) given.hub.attach(one!)
          const asked: Asked[] = []
          const textsAtLeave = new Map<TestAnswer, number>()
          const answered = new Set<number>()
          const checkIds = () => {
            const ids = given.sent.flatMap(({ id: ours, method }) => (method === undefined ? [] : (ours ?? [])))
            assert.equal(new Set(ids).size, ids.length, 'an id of ours is used twice')
          }
          for (const one of steps) {
            if (one.do === 'ask') {
              const member = people[one.person]
              if (!member) continue
              const entry: Asked = { member: one.person, id: one.id, answer: new TestAnswer(), abort: new AbortController(), done: 'no', settled: 0 }
              asked.push(entry)
              const params = one.method === 'initialize' ? { protocolVersion: 'v', capabilities: {} } : {}
              given.hub
                .request(member, permitWith(entry.abort.signal), read({ jsonrpc: '2.0', id: one.id, method: one.method, params }), entry.answer)
                .then(
                  () => {
                    entry.done = 'ok'
                    entry.settled++
                  },
                  () => {
                    entry.done = 'failed'
                    entry.settled++
                  },
                )
            } else if (one.do === 'answer') {
              const ours = pick(
                given.sent.filter(({ id: its, method }) => its !== undefined && method !== undefined),
                one.which,
              )?.id
              if (ours === undefined) continue
              answered.add(ours)
              for (let i = 0; i < one.times; i++) {
                given.say(one.fail === 0 ? { id: ours, error: { code: 1, message: String(ours) } } : { id: ours, result: { ours } })
              }
            } else if (one.do === 'leave') {
              const member = people[one.person]
              if (!member) continue
              people[one.person] = undefined
              await given.hub.detach(member, gone)
              const mine = asked.filter((entry) => entry.member === one.person)
              for (const { answer } of mine) textsAtLeave.set(answer, answer.texts.length)
              await turn()
              await turn()
              for (const entry of mine) assert.equal(entry.settled, 1, 'who leaves waits for nothing')
            } else if (one.do === 'join') {
              if (people[one.person]) continue
              // A new session of the same person is another member, with requests of its own.
              for (const entry of asked) if (entry.member === one.person) Object.assign(entry, { member: -1 })
              people[one.person] = given.member(one.person % 2 === 1)
              given.hub.attach(people[one.person]!)
            } else if (one.do === 'cut') pick(asked, one.which)?.abort.abort(gone)
            else if (one.do === 'go') pick(asked, one.which)?.answer.leave()
            else if (one.do === 'wait') given.clock.advance(one.ms)
            else if (one.do === 'progress') given.say({ method: 'notifications/progress', params: { progressToken: one.which, progress: 1 } })
            else if (people[one.person])
              await given.hub.notify(
                people[one.person]!,
                permitWith(),
                read({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: one.id } }),
              )
            // Some things happen before anybody has taken note of the one before.
            if (one.which % 3 !== 0) await turn()
            checkIds()
          }
          // The end of the process ends whatever still waits.
          given.end()
          await turn()
          await turn()
          for (const entry of asked) {
            assert.equal(entry.settled, 1, 'a request ends exactly once')
            const answers = entry.answer.messages.filter((message) => !('method' in message))
            assert.equal(answers.length, entry.done === 'ok' ? 1 : 0, 'what succeeded was answered once, what failed not at all')
            for (const message of answers) assert.strictEqual(message.id, entry.id, 'under its own id')
            const atLeave = textsAtLeave.get(entry.answer)
            if (atLeave !== undefined) assert.equal(entry.answer.texts.length, atLeave, 'nothing after its session has left')
          }
          // No answer of the server went to two, but that of the one handshake.
          const given2 = asked.flatMap(({ answer }) => answer.messages.flatMap(({ result }) => result?.ours ?? []))
          const handshakes = new Set(given.sent.filter(({ method }) => method === 'initialize').map(({ id: its }) => its))
          const others = given2.filter((ours) => era === 'modern' || !handshakes.has(ours))
          assert.equal(new Set(others).size, others.length, 'one answer reached two requests')
          for (const ours of given2) assert.ok(answered.has(ours))
        }),
        { numRuns: 200 },
      )
    })
  }

  test('each answer goes to the very request that it answers', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 12 }), fc.infiniteStream(fc.nat()), async (askers, order) => {
        const given = world('modern')
        const people = [0, 1, 2, 3].map(() => given.member())
        for (const one of people) given.hub.attach(one)
        const flights = askers.map((person, n) => {
          const answer = new TestAnswer()
          // All use the same id: only ours tell them apart.
          const message = read({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: `n${n}`, _meta: { progressToken: 't' } } })
          return { n, answer, done: given.hub.request(people[person]!, permitWith(), message, answer) }
        })
        await turn()
        const waiting = given.sent.map((message) => message as { id: number; params: { name: string } } & typeof message)
        const next = order[Symbol.iterator]()
        while (waiting.length > 0) {
          const [message] = waiting.splice(next.next().value! % waiting.length, 1)
          given.say({ method: 'notifications/progress', params: { progressToken: message!.id, progress: 1, of: message!.params.name } })
          given.say({ id: message!.id, result: { of: message!.params.name } })
        }
        for (const { n, answer, done } of flights) {
          await done
          assert.deepEqual(
            answer.messages.map(({ id: its, result, params }) => [its ?? params.progressToken, result?.of ?? params.of]),
            [
              ['t', `n${n}`],
              [1, `n${n}`],
            ],
          )
        }
      }),
      { numRuns: 60 },
    )
  })
})

test('R55: in the modern era, what is said to nobody in particular reaches none of different people, also when one is alone at work', async () => {
  for (const share of ['everybody', 'identity'] as const) {
    const given = world('modern', share)
    const one = given.member()
    given.hub.attach(one)
    const answer = new TestAnswer()
    const done = given.hub.request(
      one,
      permitWith(),
      read({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'x', arguments: {} } }),
      answer,
    )
    await turn()
    given.say({ method: 'notifications/message', params: { level: 'info', data: 'of what another one had asked' } })
    assert.equal(one.heard.length, share === 'everybody' ? 0 : 1, share)
    given.say({ id: given.sent[0]!.id, result: {} })
    await done
  }
})

test('rule 11: a server that asks its client without end is answered, and what it asks is judged and recorded only so often', async () => {
  const given = world('legacy')
  let judged = 0
  const one = given.member()
  Object.assign(one.asker, {
    async asked() {
      judged++
      return '{}'
    },
  })
  given.hub.attach(one)
  await given.hub.notify(one, permitWith(), read({ jsonrpc: '2.0', method: 'notifications/initialized' }))
  const ask = async (count: number) => {
    const before = given.sent.length
    for (let i = 0; i < count; i++) {
      given.say({ id: `q${i}`, method: 'sampling/createMessage', params: {} })
      await turn()
    }
    assert.equal(given.sent.length - before, count, 'each is answered')
  }
  await ask(700)
  assert.equal(judged, 600)
  given.clock.advance(60_000)
  await ask(1)
  assert.equal(judged, 601)
  for (let i = 0; i < 100; i++) given.say({ id: `p${i}`, method: 'sampling/createMessage', params: {} })
  await turn()
  assert.equal(judged, 601 + 64, 'and not more than some at once')
})
