import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import type { Rows } from './question.ts'
import { Rights } from './rights.ts'

function start(pinned: boolean, settings = {}) {
  const clock = manualClock(0)
  const state = { may: !pinned, claim: pinned, status: 'I' as 'I' | 'T' | 'E', asked: [] as string[], takes: true }
  const rights = new Rights({
    clock,
    fence: { settings, pinned, mayWrite: () => state.may, rightsMoved: () => false, planning: {}, keepsOrder: () => true },
    status: () => state.status,
    isIdle: () => true,
    ask(sql, done) {
      state.asked.push(sql)
      done(state.takes ? ([[]] satisfies Rows) : undefined)
    },
    setPinned: (claim) => {
      state.claim = claim
    },
  })
  return { rights, state, clock }
}

test('rule 1: a database that does not take what holds the session is not used', () => {
  const { rights, state } = start(false, { statement_timeout: '5' })
  state.takes = false
  assert.throws(() => rights.start(), { code: 'upstream_unavailable' })
  state.may = false
  const second = start(false)
  second.state.takes = false
  second.state.may = false
  second.clock.advance(1_000)
  assert.throws(() => second.rights.mustWait(false), { code: 'upstream_unavailable' })
})

test('once a rule lets a session write, the fence of the database is lifted, and set again when none does', () => {
  const { rights, state, clock } = start(true)
  state.may = true
  state.status = 'T'
  clock.advance(1_000)
  assert.equal(rights.mustWait(false), false, 'a transaction that began read-only ends so')
  assert.equal(state.claim, false)
  state.status = 'I'
  assert.equal(rights.mustWait(false), true)
  assert.match(state.asked[0]!, /default_transaction_read_only', coalesce/)
  assert.equal(rights.mustWait(false), false)
  // RESET ALL leads back to the startup packet, where the fence stands.
  rights.doubt(false)
  assert.equal(rights.mustWait(false), true)
  assert.match(state.asked[1]!, /default_transaction_read_only', coalesce/)
  assert.equal(rights.mustWait(false), false)
  assert.equal(state.claim, false)
  state.may = false
  clock.advance(1_000)
  assert.equal(rights.mustWait(false), true)
  assert.match(state.asked[2]!, /default_transaction_read_only', 'on', false/)
  assert.equal(state.claim, true)
  rights.doubt(false)
  assert.equal(rights.mustWait(false), false)
})

test('what code may have lifted is set again before anything new is read, and is not believed where a transaction may have begun without it', () => {
  const { rights, state } = start(true)
  rights.doubt(false)
  assert.equal(rights.mustWait(false), false)
  rights.doubt(true)
  assert.equal(state.claim, true)
  assert.equal(rights.mustWait(false), true)
  assert.match(state.asked[0]!, /default_transaction_read_only', 'on', false/)
  assert.equal(rights.mustWait(false), false)
  rights.doubt(true)
  rights.transactionEnds()
  state.status = 'T'
  assert.equal(rights.mustWait(false), true)
  assert.match(state.asked[1]!, /'transaction_read_only', 'on', true/)
  assert.equal(rights.mustWait(false), false)
  assert.equal(state.claim, false)
  state.status = 'I'
  assert.equal(rights.mustWait(false), true)
  assert.equal(state.claim, true)
})
