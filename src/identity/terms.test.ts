import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { duesOf, type Governed, type Step, stepFor, stoppedBy, type Terms, termsOf } from './terms.ts'

const DAY = 24 * 3_600_000
const start = Date.UTC(2026, 0, 1)

const agent = (more: Partial<Governed> = {}): Governed => ({
  state: 'active',
  ownerState: 'active',
  stopped: null,
  createdAt: start,
  reviewedAt: null,
  lastUsedAt: null,
  stopsAt: null,
  toldAt: null,
  ...more,
})

/** What a store would make of the step. */
function after(before: Governed, step: Step | undefined, now: number): Governed {
  switch (step?.do) {
    case 'tell':
      return { ...before, stopsAt: step.stopsAt, toldAt: now }
    case 'forget':
      return { ...before, stopsAt: null, toldAt: null }
    case 'stop':
      return { ...before, state: 'disabled', stopped: step.why, stopsAt: null, toldAt: null }
    case 'owner gone':
      return { ...before, stopped: 'owner' }
    case 'owner back':
      return { ...before, stopped: null }
    default:
      return before
  }
}

/** Looks every day, as a sweep does. */
function days(from: Governed, terms: Terms, count: number, change: (day: number, is: Governed) => Governed = (_, is) => is) {
  const said: string[] = []
  let is = from
  for (let day = 0; day <= count; day++) {
    is = change(day, is)
    const now = start + day * DAY
    const step = stepFor(is, terms, now)
    if (step) said.push(`${day} ${step.do}`)
    is = after(is, step, now)
  }
  return { said, is }
}

test('an agent that nobody uses is told of seven days before and one day before, and then it is stopped', () => {
  const { said, is } = days(agent(), { unusedMs: 30 * DAY }, 40)
  assert.deepEqual(said, ['23 tell', '29 tell', '30 stop'])
  assert.deepEqual([is.state, is.stopped], ['disabled', 'unused'])
})

test('use or review in between and nothing happens; then the time begins anew', () => {
  const used = days(agent(), { unusedMs: 30 * DAY }, 60, (day, is) => (day === 25 ? { ...is, lastUsedAt: start + 25 * DAY } : is))
  assert.deepEqual(used.said, ['23 tell', '25 forget', '48 tell', '54 tell', '55 stop'])
  const reviewed = days(agent(), { unusedMs: 30 * DAY }, 50, (day, is) => (day === 25 ? { ...is, reviewedAt: start + 25 * DAY } : is))
  assert.equal(reviewed.is.state, 'active', 'a review says that somebody wants it')
})

test('use is no review: an agent that works every day is stopped unless somebody says that it is wanted', () => {
  const terms = { unusedMs: 30 * DAY, reviewMs: 90 * DAY }
  const { said } = days(agent(), terms, 100, (day, is) => ({ ...is, lastUsedAt: start + day * DAY }))
  assert.deepEqual(said, ['83 tell', '89 tell', '90 stop'])
})

test('a term that is written today for an agent of last year gives notice first', () => {
  const old = agent({ createdAt: start - 400 * DAY })
  assert.deepEqual(days(old, { reviewMs: 90 * DAY }, 10).said, ['0 tell', '6 tell', '7 stop'])
  assert.deepEqual(days(old, { unusedMs: 2 * DAY }, 10).said, ['0 tell', '1 stop'], 'of a short term, half of it')
})

test('a server that was off while the time ran out stops nobody on its first look', () => {
  const step = stepFor(agent(), { unusedMs: 30 * DAY }, start + 45 * DAY)
  assert.deepEqual(step, { do: 'tell', why: 'unused', stopsAt: start + 52 * DAY })
})

test('who is away stops his agents, and when he is back they work, unless something else stopped them', () => {
  const away = agent({ ownerState: 'disabled' })
  assert.equal(stoppedBy(away), 'owner')
  const gone = days(away, {}, 1)
  assert.deepEqual([gone.said, gone.is.state], [['0 owner gone'], 'active'])
  const back = { ...gone.is, ownerState: 'active' as const }
  assert.deepEqual(stepFor(back, {}, start), { do: 'owner back' })
  assert.equal(stoppedBy(back), undefined)
  const both = { ...back, state: 'disabled' as const, stopped: null }
  assert.deepEqual([stoppedBy(both), stepFor(both, {}, start)], ['hand', undefined])
  assert.equal(stoppedBy(agent({ ownerState: undefined })), 'owner', 'nobody answers for it')
  assert.equal(stepFor({ ...gone.is, createdAt: start - 900 * DAY }, { unusedMs: DAY }, start), undefined, 'nobody is blamed for what he cannot do')
})

test('a client has terms without a document, and what a document leaves out is not asked for', () => {
  assert.deepEqual(termsOf('client', undefined), { unusedMs: 90 * DAY })
  assert.deepEqual(termsOf('document', undefined), {})
  assert.deepEqual(termsOf('client', { review: '90d' }), { unusedMs: 90 * DAY, reviewMs: 90 * DAY })
  assert.deepEqual(termsOf('client', { unused: '2d' }), { unusedMs: 2 * DAY })
  assert.deepEqual(termsOf('document', { unused: '30d', review: '90d' }), { unusedMs: 30 * DAY, reviewMs: 90 * DAY })
  assert.deepEqual(
    duesOf(agent({ lastUsedAt: start + 5 * DAY }), { unusedMs: 30 * DAY, reviewMs: 20 * DAY }).map(({ why }) => why),
    ['unreviewed', 'unused'],
  )
})

test('nobody is ever stopped who was not told at least half his term, or seven days, before', () => {
  fc.assert(
    fc.property(
      fc.record({ unusedDays: fc.integer({ min: 1, max: 60 }), reviewDays: fc.integer({ min: 1, max: 60 }) }),
      fc.array(fc.record({ gap: fc.integer({ min: 1, max: 40 }), use: fc.boolean(), review: fc.boolean() }), { minLength: 1, maxLength: 40 }),
      ({ unusedDays, reviewDays }, looks) => {
        const terms = { unusedMs: unusedDays * DAY, reviewMs: reviewDays * DAY }
        let is = agent()
        let now = start
        let firstTold: number | undefined
        for (const { gap, use, review } of looks) {
          now += gap * DAY
          if (use) is = { ...is, lastUsedAt: now }
          if (review) is = { ...is, reviewedAt: now, stopsAt: null, toldAt: null }
          const step = stepFor(is, terms, now)
          if (step?.do === 'stop') {
            const notice = Math.min(7 * DAY, Math.min(terms.unusedMs, terms.reviewMs) / 2)
            assert.ok(firstTold !== undefined && now - firstTold >= notice, 'told before')
            assert.ok(
              duesOf(is, terms).some(({ at, why }) => at <= now && why === step.why),
              'and its time is over',
            )
            return
          }
          if (step?.do === 'tell') firstTold ??= now
          if (step?.do === 'forget' || review) firstTold = undefined
          is = after(is, step, now)
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('rule 4: a clock that jumped a year ahead and came back gives no agent a year more', () => {
  const terms = { unusedMs: 30 * DAY, reviewMs: 90 * DAY }
  const jumped = start + 400 * DAY
  const told = after(agent(), stepFor(agent(), terms, jumped), jumped)
  assert.equal(told.stopsAt, jumped + 7 * DAY)
  const now = start + 29 * DAY
  const again = stepFor(told, terms, now)
  assert.deepEqual(again, { do: 'tell', why: 'unused', stopsAt: now + 7 * DAY })
  const corrected = after(told, again, now)
  assert.equal(stepFor(corrected, terms, now), undefined, 'once')
  assert.deepEqual(stepFor(corrected, terms, now + 7 * DAY), { do: 'stop', why: 'unused' })
  // Used, and reviewed, while the clock was ahead.
  const used = agent({ lastUsedAt: jumped, reviewedAt: jumped })
  assert.equal(stepFor(used, terms, now)?.do, 'tell')
})
