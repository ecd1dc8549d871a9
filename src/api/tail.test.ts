import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Envelope } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { STREAM_LIMITS } from './stream.ts'
import { makeTail } from './tail.ts'

function fakeLog() {
  const watchers = new Set<(envelope: Envelope) => void>()
  return {
    watchers,
    watch(see: (envelope: Envelope) => void) {
      watchers.add(see)
      return () => watchers.delete(see)
    },
    say(id: string) {
      for (const see of watchers) see({ id } as Envelope)
    },
  }
}

/** Each session of an identity of its own, unless one is given. */
const watcher = (id: string, identityId = id) => ({ id, principal: { identityId } })

async function readText(response: Response, until: string): Promise<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes(until)) {
    const { done, value } = await reader.read()
    if (done) break
    text += value
  }
  await reader.cancel()
  return text
}

test('each record becomes one event; the watch ends with its reader', async () => {
  const log = fakeLog()
  const tail = makeTail(log, manualClock(0))
  const { response, done } = tail.open(watcher('ses_1'), new AbortController().signal, (envelope) => ({ row: envelope.id }))
  log.say('rec_1')
  log.say('rec_2')
  assert.equal(await readText(response, 'rec_2"}\n\n'), ': watching\n\nid: rec_1\ndata: {"row":"rec_1"}\n\nid: rec_2\ndata: {"row":"rec_2"}\n\n')
  await done
  assert.equal(log.watchers.size, 0)
})

test('rule 6: the watch ends when its permit is cut; its last event says why, and nothing of the record comes with it', async () => {
  const log = fakeLog()
  const cut = new AbortController()
  const { response, done } = makeTail(log, manualClock(0)).open(watcher('ses_1'), cut.signal, () => ({}))
  for (let i = 0; i < 100; i++) log.say(`rec_${i}`)
  cut.abort(new ChaperoneError('locked', 'A lock stops this: incident 7'))
  await done
  const [over, ...before] = (await response.text()).trimEnd().split('\n\n').reverse()
  assert.equal(over, 'event: over\ndata: {"error":{"code":"locked","message":"A lock stops this: incident 7"}}')
  assert.ok(before.length < 20, 'what had not been taken is not given any more')
  assert.equal(log.watchers.size, 0)
})

test('rule 11: a reader that does not read is let go and told so; watchers are counted', async () => {
  const log = fakeLog()
  const clock = manualClock(0)
  const tail = makeTail(log, clock)
  const never = new AbortController().signal
  const slow = tail.open(watcher('ses_1'), never, () => ({}))
  for (let i = 0; i < STREAM_LIMITS.behind + 100; i++) log.say(`rec_${i}`)
  await slow.done
  assert.match(await slow.response.text(), /event: behind/)
  for (let i = 0; i < STREAM_LIMITS.perSession; i++) tail.open(watcher('ses_2'), never, () => ({}))
  assert.throws(() => tail.open(watcher('ses_2'), never, () => ({})), { code: 'too_many' })
  const open = Array.from({ length: STREAM_LIMITS.watchers - STREAM_LIMITS.perSession }, (_, i) => tail.open(watcher(`ses_x${i}`), never, () => ({})))
  assert.throws(() => tail.open(watcher('ses_y'), never, () => ({})), { code: 'too_many' })
  tail.close()
  // One that has many sessions leaves room for the others.
  for (let i = 0; i < STREAM_LIMITS.perIdentity; i++) tail.open(watcher(`ses_z${i}`, 'agt_1'), never, () => ({}))
  assert.throws(() => tail.open(watcher('ses_z', 'agt_1'), never, () => ({})), { code: 'too_many' })
  tail.open(watcher('ses_y'), never, () => ({}))
  tail.close()
  await Promise.all(open.map(({ done }) => done))
  assert.equal(log.watchers.size, 0)
})

test('a comment is sent now and then, so that a dead line is noticed', async () => {
  const clock = manualClock(0)
  const { response } = makeTail(fakeLog(), clock).open(watcher('ses_1'), new AbortController().signal, () => ({}))
  clock.advance(45_000)
  assert.equal(await readText(response, ': beat\n\n: beat\n\n: beat'), ': watching\n\n: beat\n\n: beat\n\n: beat\n\n')
})
