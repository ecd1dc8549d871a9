import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { SIGNATURE } from './catalog.ts'
import { LINGER_MS, LONGEST_UNSEEN_MS, Mirrors, REFRESH_MS, UNKNOWN_MS } from './mirrors.ts'

/** A database that says `state.version` of itself, and counts who asks. */
function database() {
  const state = {
    version: 1,
    looks: 0,
    signatures: 0,
    opened: 0,
    closed: 0,
    isDown: false,
    gate: undefined as Promise<void> | undefined,
    pass: () => {},
  }
  const relation = () => JSON.stringify([1, 'public', `t${state.version}`, 'r', 0, 0, null, null, false, false, null, null, null, null])
  return {
    state,
    async open() {
      state.opened++
      if (state.isDown) throw new ChaperoneError('upstream_unavailable', 'down')
      return {
        async ask(sql: string) {
          if (sql === SIGNATURE) {
            state.signatures++
            const said = [[`${state.version}`]]
            state.pass()
            await state.gate
            return said
          }
          if (sql.startsWith('BEGIN')) state.looks++
          if (/FROM pg_class c JOIN/.test(sql) && /c\.oid > 0 /.test(sql)) return [[relation(), null]]
          if (/server_version_num/.test(sql)) return [['180004']]
          if (/DISTINCT p\.proname/.test(sql)) return [['["lower"]', '[["public"],["pg_catalog.pg_class"]]']]
          return []
        },
        close: () => void state.closed++,
      }
    },
  }
}

const settle = () => new Promise((done) => setImmediate(done))
async function settled(times = 40) {
  for (let i = 0; i < times; i++) await settle()
}

function start() {
  const clock = manualClock(1_000_000)
  const faults: ChaperoneError[] = []
  return { clock, faults, mirrors: new Mirrors({ clock, fault: (error) => faults.push(error) }), ...database() }
}

test('connections to one database share one look, and nothing is left when the last one goes', async () => {
  const { mirrors, state, open, clock } = start()
  const [a, b] = await Promise.all([mirrors.hold('db', open), mirrors.hold('db', () => open())])
  assert.equal(a.current(), b.current())
  assert.ok(a.current().relation('public', 't1'))
  assert.equal(state.looks, 1)
  a.release()
  a.release()
  assert.equal(mirrors.size, 1)
  b.release()
  assert.equal(mirrors.size, 1)
  clock.advance(LINGER_MS)
  assert.equal(mirrors.size, 0)
  clock.advance(10 * REFRESH_MS)
  await settled()
  assert.equal(state.opened, state.closed)
  assert.equal(state.opened, 1)
})

test('while somebody is connected it is asked whether anything changed, and only a change is looked at whole', async () => {
  const { mirrors, state, open, clock } = start()
  const held = await mirrors.hold('db', open)
  const first = held.current()
  clock.advance(REFRESH_MS)
  await settled()
  assert.deepEqual([state.looks, held.current() === first], [1, true])
  state.version = 2
  clock.advance(REFRESH_MS)
  await settled()
  assert.equal(state.looks, 2)
  assert.ok(held.current().relation('public', 't2'))
  held.release()
})

test('after a change through us nothing is settled until a look that began later is over', async () => {
  const { mirrors, state, open } = start()
  const held = await mirrors.hold('db', open)
  const gate = Promise.withResolvers<void>()
  state.gate = gate.promise
  held.stale()
  await settled()
  state.version = 2
  held.stale()
  assert.equal(held.isSettled, false)
  gate.resolve()
  await held.settled()
  assert.equal(held.isSettled, true)
  assert.ok(held.current().relation('public', 't2'))
  held.release()
})

test('rule 11: where a look for changes takes long, it comes seldom, and who connects meanwhile has one made', async () => {
  const { mirrors, state, open, clock } = start()
  const held = await mirrors.hold('db', open)
  state.pass = () => clock.advance(1_000)
  clock.advance(REFRESH_MS)
  await settled()
  const before = state.signatures
  state.version = 2
  clock.advance(2 * REFRESH_MS)
  await settled()
  assert.equal(state.signatures, before)
  assert.ok(held.current().relation('public', 't1'))
  const second = await mirrors.hold('db', () => open())
  assert.ok(second.current().relation('public', 't2'))
  held.release()
  second.release()
})

test('rule 11: unknown names make the gateway look once a second at most', async () => {
  const { mirrors, state, open, clock } = start()
  const held = await mirrors.hold('db', open)
  for (let i = 0; i < 50; i++) await held.fresher()
  assert.equal(state.looks, 1)
  clock.advance(UNKNOWN_MS)
  state.version = 2
  await Promise.all(Array.from({ length: 50 }, () => held.fresher()))
  assert.equal(state.looks, 2)
  held.release()
})

test('rule 1: without a look there is no connection, and a mirror that is not renewed for minutes is not relied on', async () => {
  const { mirrors, state, open, clock, faults } = start()
  state.isDown = true
  await assert.rejects(mirrors.hold('db', open), { code: 'upstream_unavailable' })
  assert.equal(mirrors.size, 0)
  state.isDown = false
  const held = await mirrors.hold('db', open)
  state.isDown = true
  for (let i = 0; i <= LONGEST_UNSEEN_MS / REFRESH_MS; i++) {
    held.current()
    clock.advance(REFRESH_MS)
    await settled()
  }
  assert.throws(() => held.current(), { code: 'upstream_unavailable' })
  assert.ok(faults.length > 0)
  state.isDown = false
  clock.advance(REFRESH_MS)
  await settled()
  held.current()
  held.release()
})

test('who comes back to a database after a while sees what it has become meanwhile', async () => {
  const { mirrors, state, open } = start()
  ;(await mirrors.hold('db', open)).release()
  state.version = 3
  const held = await mirrors.hold('db', open)
  assert.ok(held.current().relation('public', 't3'))
  held.release()
})

test('who comes back soon has it asked whether anything changed, and not all of it again', async () => {
  const { mirrors, state, open, clock } = start()
  ;(await mirrors.hold('db', open)).release()
  clock.advance(LINGER_MS - 1)
  const held = await mirrors.hold('db', open)
  assert.deepEqual([state.looks, state.signatures], [1, 2])
  clock.advance(1)
  assert.equal(mirrors.size, 1)
  held.release()
})

test('a database whose looks take longer than a mirror is young can be connected to', async () => {
  const { mirrors, state, open, clock } = start()
  state.pass = () => clock.advance(2 * REFRESH_MS)
  const held = await mirrors.hold('db', open)
  clock.advance(REFRESH_MS)
  ;(await mirrors.hold('db', () => open())).release()
  held.release()
})

test('whoever waits for a change waits for those before him, and not for all that come meanwhile', async () => {
  const { mirrors, open, state } = start()
  const held = await mirrors.hold('db', open)
  held.stale()
  const settled = held.settled().then(() => 'settled')
  // With each look one more change is announced.
  state.pass = () => held.stale()
  const ever = new Promise((done) => setTimeout(done, 20_000, 'waits').unref())
  assert.equal(await Promise.race([settled, ever]), 'settled')
  state.pass = () => {}
  await held.settled()
  held.release()
})

test('rule 11: a database that says too much of itself is refused, and says why', async () => {
  const { open, clock } = start()
  const mirrors = new Mirrors({ clock, limits: { relations: 0, characters: 1_000_000 } })
  await assert.rejects(mirrors.hold('db', open), { code: 'too_large', message: /more than 0 relations/ })
})

test('rule 11: users whose connections for a look fail do not blind those whose succeed', async () => {
  const { mirrors, state, open, clock } = start()
  const good = await mirrors.hold('db', open)
  // Each has got its one connection that its user may have, and no other.
  for (let i = 0; i < 40; i++)
    await mirrors.hold('db', () => Promise.reject(new ChaperoneError('upstream_unavailable', 'too many connections for role')))
  for (let passed = 0; passed < LONGEST_UNSEEN_MS * 2; passed += UNKNOWN_MS) {
    clock.advance(UNKNOWN_MS)
    await settled(3)
    good.current()
  }
  assert.ok(state.signatures > 5)
})
