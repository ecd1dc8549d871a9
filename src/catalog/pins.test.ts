import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../errors.ts'
import { approved, definitionOf, heldBack, isUsable, kept, observed, type Pin, pinsByServer, stateOf } from './pins.ts'

const subject = { kind: 'tool', name: 'send' } as const
const define = (value: unknown) => definitionOf(value, JSON.stringify(value))

/** The same value with the keys of every object in another order. */
const shuffled = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(shuffled)
    : typeof value === 'object' && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .toReversed()
            .map(([key, one]) => [key, shuffled(one)]),
        )
      : value

test('a definition has one hash, however its keys are ordered, and another for anything else that it says', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), fc.jsonValue({ maxDepth: 4 }), (a, b) => {
      assert.deepEqual(define(shuffled(a)), define(a))
      if (JSON.stringify(shuffled(a)) !== JSON.stringify(shuffled(b)) && define(a).text !== define(b).text)
        assert.notEqual(define(a).sha256, define(b).sha256)
    }),
  )
  assert.notEqual(define({ name: 'a', description: 'x' }).sha256, define({ name: 'a', description: 'x ' }).sha256)
  assert.notEqual(define({ name: 'a' }).sha256, define({ name: 'a', _meta: {} }).sha256)
})

test('a number that no double keeps is compared as it was written', () => {
  const text = (n: string) => `{"name":"a","max":${n}}`
  const of = (n: string) => definitionOf(JSON.parse(text(n)), text(n), false)
  assert.notEqual(of('9007199254740993').sha256, of('9007199254740992').sha256)
})

type Step = { readonly op: 'see' | 'approve' | 'keep' | 'wait'; readonly which: number }
const steps = fc.array(fc.record({ op: fc.constantFrom<Step['op']>('see', 'see', 'see', 'approve', 'keep', 'wait'), which: fc.nat({ max: 3 }) }), {
  maxLength: 30,
})

test('rule 1: whatever a server shows, a definition is used only if it was the first or somebody named its hash', () => {
  fc.assert(
    fc.property(steps, fc.boolean(), (all, confirmedBefore) => {
      const hashes = [0, 1, 2, 3].map((n) => define({ name: 'send', description: `version ${n}` }))
      let pin: Pin | undefined
      let now = 0
      const mayBeUsed = new Set<string>()
      let lastSeen: string | undefined
      for (const { op, which } of all) {
        const { sha256 } = hashes[which]!
        if (op === 'wait') now += 90_000
        else if (op === 'see') {
          if (!pin && !confirmedBefore) mayBeUsed.add(sha256)
          pin = observed(pin, subject, hashes[which]!, { confirmed: confirmedBefore, now })
          lastSeen = sha256
        } else if (pin) {
          try {
            pin = op === 'approve' ? approved(pin, sha256, ++now) : kept(pin, ++now)
            if (op === 'approve') {
              mayBeUsed.clear()
              mayBeUsed.add(sha256)
              // Approved means approved: whoever decided has seen what it replaces.
              lastSeen = sha256
            } else lastSeen = pin.approved
          } catch (error) {
            assert.ok(error instanceof ChaperoneError && error.code === 'conflict')
          }
        }
        if (!pin || !isUsable(pin)) continue
        assert.ok(mayBeUsed.has(pin.approved!), 'what nobody approved is in use')
        assert.equal(lastSeen, pin.approved, 'another definition was seen last, and it is in use all the same')
      }
    }),
    { numRuns: 2000 },
  )
})

test('once another definition was seen, the one before does not come back by being shown again', () => {
  const [one, two] = [define(1), define(2)]
  const at = { confirmed: false, now: 0 }
  const pin = observed(observed(undefined, subject, one, at), subject, two, at)
  assert.equal(stateOf(pin), 'changed')
  assert.equal(observed(pin, subject, one, at), pin)
})

test('the newest change is what waits, but a server that changes at every look does not cause a write for each', () => {
  const first = observed(observed(undefined, subject, define(0), { confirmed: false, now: 0 }), subject, define(1), { confirmed: false, now: 0 })
  assert.equal(observed(first, subject, define(2), { confirmed: false, now: 59_999 }), first)
  assert.equal(observed(first, subject, define(2), { confirmed: false, now: 60_000 }).pending, define(2).sha256)
})

test('what was never listed is held back where something was confirmed, and only there', () => {
  const pin = observed(undefined, subject, define(0), { confirmed: false, now: 0 })
  const other = { kind: 'tool', name: 'other' } as const
  const pins = (one: Pin) => pinsByServer([['res', one]])
  assert.equal(heldBack(pins(pin)('res'), other), undefined)
  const confirmed = approved(pin, define(0).sha256, 1)
  assert.equal(heldBack(pins(confirmed)('res'), other), 'new')
  assert.equal(heldBack(pins(confirmed)('res'), subject), undefined)
  assert.equal(heldBack(pins(confirmed)('another server'), other), undefined)
  assert.equal(pins(confirmed)('res').decidedAt, 1)
})
