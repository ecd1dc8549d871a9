import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { draftText } from './draft-text.ts'
import { columnsOf, decodeEnvelope } from './envelope.ts'
import { createMasker } from './mask.ts'
import { commitment, prepare } from './prepare.ts'
import type { Body, Draft } from './record.ts'

const LIMIT = 1000
const KNOWN = 'correct-horse"battery'
const masker = createMasker()
masker.add([KNOWN])
const place = { node: 'nod_1', seq: 1 }
const run = (draft: Draft, bodies: readonly Body[] = []) => {
  const named = { ...draft, id: draft.id ?? 'rec_1' }
  const text = draftText(named) ?? JSON.stringify(named)
  return prepare({ text, columns: columnsOf({ ...named, at: 5 }), bodies }, place, masker, LIMIT)
}
const token = `ghp_${'a1B2'.repeat(9)}`

test('The commitment is HMAC-SHA256.', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ maxLength: 300 }), (salt, body) => {
      assert.equal(commitment(salt, body), createHmac('sha256', salt).update(body).digest('hex'))
    }),
  )
})

test('rule 5: a secret in any free text of a record is masked, and ids and closed words are not touched.', () => {
  const { row } = run({
    type: 'action.intent',
    purpose: `because ${KNOWN}`,
    actor: { id: 'agt_1', name: 'boris' },
    action: {
      kind: 'mcp',
      operation: `call ${token}`,
      effects: ['read'],
      summary: `use ${token}`,
      resource: { id: 'res_1', name: 'files', kind: 'mcp' },
    },
    decision: { verdict: 'allow', reason: 'allowed', link: 'boris', obligations: { note: token } },
    outcome: { status: 'failed', error: `no ${KNOWN}` },
    data: { [token]: [KNOWN], password: 'x' },
  })
  assert.ok(!row.leaf.includes(token) && !row.leaf.includes(JSON.stringify(KNOWN).slice(1, -1)))
  const envelope = decodeEnvelope(row.leaf)
  assert.deepEqual(envelope.action!.resource, { id: 'res_1', name: 'files', kind: 'mcp' })
  assert.equal(envelope.outcome!.error, 'no [masked:secret]')
  assert.deepEqual(envelope.data, { '[masked:github-token]': ['[masked:secret]'], password: '[masked:secret]' })
})

test('rule 5: the digest of what was cut is of the masked value.', () => {
  const large = `${'x'.repeat(100_000)}${token}`
  const a = decodeEnvelope(run({ type: 'lock.made', data: { large } }).row.leaf)
  const b = decodeEnvelope(run({ type: 'lock.made', data: { large: large.replace(token, '[masked:github-token]') } }).row.leaf)
  assert.deepEqual(a.data, b.data)
})

test('rule 3: a body over its limit is cut at a character, with full size and digest; secrets in it are masked first.', () => {
  const text = `${'ü'.repeat(700)} ${token}`
  const { row, bodies } = run({ type: 'action.intent' }, [{ name: 'result', bytes: text }])
  const [ref] = decodeEnvelope(row.leaf).bodies!
  assert.equal(ref!.cut!.size, 1400 + 1 + '[masked:github-token]'.length)
  assert.equal(ref!.masked, 1)
  assert.equal(ref!.size, LIMIT)
  assert.equal(bodies[0]!.body.length, LIMIT)
  assert.equal(ref!.commitment, commitment(bodies[0]!.salt, bodies[0]!.body))
  const odd = run({ type: 'action.intent' }, [{ name: 'result', bytes: `a${text}` }])
  assert.equal(odd.bodies[0]!.body.length, LIMIT - 1)
})

test('A body of bytes is stored as it is, and two of one name are told apart.', () => {
  const bytes = new Uint8Array([0, 255, 254, 128])
  const { row, bodies } = run({ type: 'action.intent' }, [
    { name: 'result', bytes },
    { name: 'result', bytes },
  ])
  assert.deepEqual(
    bodies.map(({ name }) => name),
    ['result', 'result#2'],
  )
  assert.deepEqual(new Uint8Array(bodies[0]!.body), bytes)
  const [first, second] = decodeEnvelope(row.leaf).bodies!
  assert.notEqual(first!.commitment, second!.commitment, 'each has its own salt')
})

test('An id that holds a NUL is refused.', () => {
  assert.throws(() => run({ type: 'lock.made', id: 'per\0' }), /NUL/)
})
