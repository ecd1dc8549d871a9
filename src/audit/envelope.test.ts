import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { type Cut, columnsOf, decodeEnvelope, encodeEnvelope, MAX_LEAF_BYTES, makeEnvelope } from './envelope.ts'
import type { Draft } from './record.ts'

const placed = { id: 'rec_1', at: 1_795_000_000_000, node: 'nod_1', seq: 7 }
const encode = (draft: Omit<Draft, 'bodies'>) => encodeEnvelope(makeEnvelope(draft, placed, []))
const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

test('A leaf is the canonical JSON of draft and place, and reads back.', () => {
  const leaf = encode({ type: 'lock.made', data: { why: 'ünïcode', n: 1 } })
  assert.equal(leaf, '{"at":1795000000000,"data":{"n":1,"why":"ünïcode"},"id":"rec_1","node":"nod_1","seq":7,"type":"lock.made","v":1}')
  assert.deepEqual(decodeEnvelope(Buffer.from(leaf)), decodeEnvelope(leaf))
  assert.equal(canonicalJson(decodeEnvelope(leaf)), leaf)
})

test('A draft cannot choose its own place.', () => {
  const forged = { type: 'lock.made', v: 9, seq: 1, node: 'nod_2', at: 5, id: 'rec_9' } as unknown as Draft
  assert.deepEqual(decodeEnvelope(encode(forged)), { v: 1, ...placed, type: 'lock.made' })
})

test('A leaf of an unknown version is refused, and what is no leaf is broken.', () => {
  assert.throws(() => decodeEnvelope('{"v":2}'), code('schema_newer'))
  for (const text of ['', 'null', '{}', '{"v":"1"}', '{"v":0}', '[1]']) assert.throws(() => decodeEnvelope(text), code('record_broken'))
  assert.throws(() => decodeEnvelope(Buffer.from([0xff])), code('record_broken'))
})

test('rule 3: a record of any size is kept, cut where it can be seen, with size and digest (peers R69).', () => {
  const long = 'x'.repeat(200_000)
  const { data } = decodeEnvelope(encode({ type: 'documents.applied', data: { long, short: 'stays' } }))
  const cut = data!.long as Cut
  assert.deepEqual(cut.cut, { size: 200_000, sha256: createHash('sha256').update(long).digest('hex') })
  assert.equal(cut.head, 'x'.repeat(512))
  assert.equal(data!.short, 'stays')
})

test('rule 3: a summary, an outcome or thousands of small fields are cut as well.', () => {
  const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`, i]))
  const action = {
    kind: 'mcp',
    operation: 'tools/call',
    effects: ['read'],
    summary: 'ü'.repeat(90_000),
    resource: { id: 'res_1', name: 'files' },
  } as const
  const envelope = decodeEnvelope(
    encode({ type: 'action.outcome', action, data: many, outcome: { status: 'failed', error: 'e'.repeat(90_000), many } }),
  )
  assert.match(envelope.action!.summary, /^ü{512}… \[cut: 180000 bytes, sha256 [0-9a-f]{64}\]$/)
  assert.equal(envelope.outcome!.status, 'failed')
  assert.ok((envelope.data as unknown as Cut).cut.size > 100_000)
})

test('rule 3: half a character or absurd depth does not keep a record from being written.', () => {
  let deep: unknown = 'bottom'
  for (let i = 0; i < 1000; i++) deep = [deep]
  const envelope = decodeEnvelope(encode({ type: 'message.refused', data: { half: '\ud800', '\udc00': 1, deep } }))
  assert.equal(envelope.data!.half, '\ufffd')
  assert.match(JSON.stringify(envelope.data!.deep), /"cut":\{"sha256":"[0-9a-f]{64}"/)
})

test('rule 3: whatever JSON a record carries, the leaf fits and reads back.', () => {
  const data = fc.dictionary(fc.string(), fc.jsonValue())
  fc.assert(
    fc.property(data, fc.nat(40), fc.nat(400), (value, copies, length) => {
      const big = { ...value, big: Array.from({ length: copies * copies }, () => 'ü"'.repeat(length)) }
      const leaf = encode({ type: 'action.outcome', purpose: 'p'.repeat(length * 300), data: big, outcome: { status: 'ok', ...value } })
      assert.ok(Buffer.byteLength(leaf) <= MAX_LEAF_BYTES)
      assert.equal(decodeEnvelope(leaf).seq, 7)
    }),
    { numRuns: 60 },
  )
})

test('The columns are what the envelope says.', () => {
  const draft: Draft = {
    type: 'action.intent',
    actor: { id: 'agt_1', name: 'a' },
    session: 'ses_1',
    permit: 'per_1',
    action: { kind: 'mcp', operation: 'x', effects: ['read'], summary: 's', resource: { id: 'res_1', name: 'r' } },
    decision: { verdict: 'allow', reason: 'allowed', link: 'a', obligations: {} },
  }
  assert.deepEqual(columnsOf(makeEnvelope(draft, placed, [])), {
    ...{ id: 'rec_1', at: placed.at, type: 'action.intent', identity_id: 'agt_1', session_id: 'ses_1' },
    ...{ resource_id: 'res_1', verdict: 'allow', permit: 'per_1' },
  })
})
