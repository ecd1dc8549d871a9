import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type Notification, type Request, readMessages, readUpstream } from '../wire.ts'
import { answerFor, Correlator } from './correlate.ts'

const read = (text: string) => readMessages(Buffer.from(text), { bodyBytes: 1e6, depth: 64, batch: 1 }) as Request & Notification
const idOf = (text: string) => (JSON.parse(text) as { id: number }).id

describe('ids of clients and ids of ours', () => {
  test('rule 10: all but the ids keeps its bytes, there and back', () => {
    const given = new Correlator<string>()
    const { text, waiting } = given.add(
      read('{"params" : {"_meta":{"progressToken":"t\\u0041"}, "name":"x", "n":1.0},"id": "a\\"b","method":"tools/call","jsonrpc":"2.0"}'),
      'me',
    )
    assert.equal(text, '{"params" : {"_meta":{"progressToken":1}, "name":"x", "n":1.0},"id": 1,"method":"tools/call","jsonrpc":"2.0"}')
    const progress = readUpstream('{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1e400,"progressToken":1}}')
    assert.equal(given.about(progress, true), waiting)
    assert.equal(
      given.told(progress, waiting),
      '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1e400,"progressToken":"t\\u0041"}}',
    )
    const answer = given.take(readUpstream('{"id":1,"result":{"n":12345678901234567890},"jsonrpc":"2.0"}'))
    assert.equal(answer?.text, '{"id":"a\\"b","result":{"n":12345678901234567890},"jsonrpc":"2.0"}')
    assert.equal(given.take(readUpstream('{"id":1,"result":{},"jsonrpc":"2.0"}')), undefined, 'a second answer answers nobody')
  })

  test('a subscription is named as its client named it, in notifications, its result and its end', () => {
    const given = new Correlator<string>()
    const { waiting } = given.add(read('{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{}}'), 'me')
    const key = '"io.modelcontextprotocol/subscriptionId"'
    const ack = readUpstream(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{${key}:1}}}`)
    assert.equal(given.about(ack, true), waiting)
    assert.match(given.told(ack, waiting), /subscriptionId":"sub"/)
    const escaped = readUpstream('{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.modelcontextprotocol\\u002fsubscriptionId":1}}}')
    assert.match(given.told(escaped, waiting), /u002fsubscriptionId":"sub"/)
    const cancelled = readUpstream('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    assert.match(given.told(cancelled, given.about(cancelled, true)!), /requestId":"sub"/)
    assert.equal(given.about(cancelled, false), undefined, 'in the legacy era a server cancels what it asked itself')
    assert.match(given.take(readUpstream(`{"jsonrpc":"2.0","id":1,"result":{"_meta":{${key}:1}}}`))!.text, /"id":"sub".*subscriptionId":"sub"/)
  })

  test('what could be for two is for nobody', () => {
    const given = new Correlator<string>()
    given.add(read('{"jsonrpc":"2.0","id":7,"method":"ping"}'), 'me')
    const two = readUpstream('{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progressToken":2}}')
    assert.equal(given.about(two, true), undefined)
    assert.equal(given.take(readUpstream('{"jsonrpc":"2.0","id":"1","result":{}}')), undefined, 'text is no number')
    assert.equal(given.take(readUpstream('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}')), undefined)
    assert.deepEqual(
      given.meant('{"id":1,"id":99,"result":{}}').map(({ message }) => message.id),
      [7],
    )
  })

  test('the first answer to what was given up is late; a second one, and one to what was answered, is not', () => {
    const given = new Correlator<string>()
    const [gone, done] = [7, 8].map((id) => given.add(read(`{"jsonrpc":"2.0","id":${id},"method":"ping"}`), 'me').waiting)
    const answer = (id: number) => readUpstream(`{"jsonrpc":"2.0","id":${id},"result":{}}`)
    given.take(answer(done!.id))
    assert.equal(given.giveUp(done!), false)
    assert.equal(given.late(answer(done!.id)), false)
    assert.equal(given.giveUp(gone!), true)
    assert.equal(given.take(answer(gone!.id)), undefined)
    assert.equal(given.late(answer(gone!.id)), true)
    assert.equal(given.late(answer(gone!.id)), false)
  })

  test('one answer, given to another', () => {
    assert.equal(answerFor(readUpstream('{"jsonrpc":"2.0","result":{},"id":3}'), '"other"'), '{"jsonrpc":"2.0","result":{},"id":"other"}')
  })
})

describe('whatever comes in whatever order', () => {
  const owner = fc.constantFrom('a', 'b', 'c')
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('ask' as const), owner, id: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.constantFrom('x', '1')) }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('answer' as const), which: fc.nat({ max: 15 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const), which: fc.nat({ max: 15 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('cancel' as const), owner, id: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.constantFrom('x', '1')) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const) }) },
  )

  test('an answer reaches its own asker under its own id, once; ids are never used twice', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 100 }), (steps) => {
        const given = new Correlator<string>()
        const model = new Map<number, { owner: string; id: string | number }>()
        const used = new Set<number>()
        const sent: ReturnType<typeof given.add>['waiting'][] = []
        for (const one of steps) {
          if (one.do === 'ask') {
            const { text, waiting } = given.add(read(JSON.stringify({ jsonrpc: '2.0', id: one.id, method: 'm' })), one.owner)
            const ours = idOf(text)
            assert.ok(!used.has(ours), 'an id is used twice')
            used.add(ours)
            model.set(ours, one)
            sent.push(waiting)
          } else if (one.do === 'answer') {
            const expected = model.get(one.which)
            const got = given.take(readUpstream(JSON.stringify({ jsonrpc: '2.0', id: one.which, result: { of: one.which } })))
            assert.equal(got !== undefined, expected !== undefined, 'lost, or invented')
            if (!got || !expected) continue
            assert.deepEqual([got.waiting.owner, JSON.parse(got.text).id, JSON.parse(got.text).result.of], [expected.owner, expected.id, one.which])
            model.delete(one.which)
          } else if (one.do === 'drop') {
            const waiting = sent[one.which]
            if (waiting) assert.equal(given.drop(waiting), model.delete(waiting.id))
          } else if (one.do === 'cancel') {
            const message = read(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: one.id } }))
            const got = given.cancelled(message, (waiting) => waiting.owner === one.owner)
            const mine = [...model].find(([, entry]) => entry.owner === one.owner && entry.id === one.id)
            assert.equal(got && JSON.parse(got.text).params.requestId, mine?.[0])
          } else {
            assert.equal(given.clear().length, model.size)
            model.clear()
          }
          assert.equal(given.size, model.size)
        }
      }),
    )
  })

  test('those that wait are the oldest first, each is found by its id, and an id that nobody waits for finds none', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 12 }), { maxLength: 80 }), (steps) => {
        const given = new Correlator<number>()
        const known: ReturnType<typeof given.all> = []
        for (const [owner, step] of steps.entries()) {
          const gone = known[step]
          if (gone) {
            assert.equal(given.drop(gone), true)
            assert.equal(given.drop(gone), false)
            assert.equal(given.take(readUpstream(`{"jsonrpc":"2.0","id":${gone.id},"result":{}}`)), undefined)
            known.splice(step, 1)
          } else known.push(given.add(read('{"jsonrpc":"2.0","id":1,"method":"ping"}'), owner).waiting)
          assert.deepEqual(given.all(), known)
          assert.equal(given.size, known.length)
          for (const waiting of known) assert.deepEqual(given.meant(`{"id": ${waiting.id}}`), [waiting])
        }
        for (const waiting of known.toReversed())
          assert.equal(given.take(readUpstream(`{"jsonrpc":"2.0","id":${waiting.id},"result":{}}`))?.waiting, waiting)
        assert.equal(given.size, 0)
      }),
      { numRuns: 50 },
    )
  })
})
