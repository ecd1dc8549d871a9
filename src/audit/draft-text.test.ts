import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { draftText, leafText } from './draft-text.ts'
import { makeEnvelope } from './envelope.ts'
import { emptyParcel, pack, unpack } from './parcel.ts'
import type { Incoming } from './prepare.ts'
import type { BodyRef, Draft } from './record.ts'

const text = fc.string({ unit: 'binary', maxLength: 20 })
const named = fc.record({ id: text, name: text, kind: text }, { requiredKeys: ['id', 'name'] })
const drafts = fc.record(
  {
    type: fc.constantFrom('action.intent', 'action.outcome', 'lock.made'),
    id: text,
    actor: named,
    chain: fc.array(named, { maxLength: 3 }),
    session: text,
    connection: text,
    credential: text,
    issuer: text,
    purpose: text,
    trace: text,
    permit: text,
    data: fc.dictionary(text, fc.jsonValue(), { maxKeys: 4 }),
    outcome: fc.record({ status: fc.constant('ok'), rows: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
    decision: fc.record({ verdict: fc.constant('allow'), obligations: fc.dictionary(text, fc.jsonValue(), { maxKeys: 3 }) }),
    action: fc.record({
      kind: text,
      resource: named,
      effects: fc.array(text, { maxLength: 3 }),
      facts: fc.dictionary(text, fc.jsonValue(), { maxKeys: 3 }),
    }),
  },
  { requiredKeys: ['type', 'id'] },
) as unknown as fc.Arbitrary<Omit<Draft, 'bodies'> & { id: string }>
const refs = fc.array(fc.record({ name: text, size: fc.nat(), commitment: fc.constant('ab') }), { maxLength: 2 }) as fc.Arbitrary<readonly BodyRef[]>

test('The leaf that is put together from parts is the canonical JSON of the whole, byte for byte.', () => {
  fc.assert(
    fc.property(drafts, refs, fc.nat(), fc.nat(), text, (draft, bodies, at, seq, node) => {
      const parts = draftText(draft)
      assert.ok(parts)
      const whole = makeEnvelope(JSON.parse(JSON.stringify(draft)), { id: draft.id, at, node, seq }, bodies)
      assert.equal(leafText(parts, { at, node, seq, bodies: bodies.length === 0 ? '' : canonicalJson(bodies) }), canonicalJson(whole))
    }),
  )
})

test('What has no canonical form, or is not known, has no short way.', () => {
  assert.equal(draftText({ type: 'lock.made', purpose: '\ud800' }), undefined)
  assert.equal(draftText({ type: 'lock.made', data: { a: undefined } }), undefined)
  assert.equal(draftText({ type: 'lock.made', surprise: 1 } as Draft), undefined)
  assert.equal(draftText({ type: 'lock.made', at: 7 } as Draft), undefined, 'nobody but the writer says when')
})

test('Records come out of a parcel as they went in.', () => {
  const nullable = fc.option(text)
  const shape = {
    text: fc.oneof(text, fc.tuple(text, text, text, text)),
    columns: fc.record({
      ...{ id: text, at: fc.nat(), type: text, identity_id: nullable, session_id: nullable },
      ...{ resource_id: nullable, verdict: nullable, permit: nullable },
    }),
    bodies: fc.array(fc.record({ name: text, bytes: fc.oneof(text, fc.uint8Array({ maxLength: 5 })) }), { maxLength: 3 }),
    claim: fc.record({ request: text, digest: text, permit: text }),
  }
  const incoming: fc.Arbitrary<Incoming> = fc.record(shape, { requiredKeys: ['text', 'columns', 'bodies'] })
  fc.assert(
    fc.property(fc.array(incoming, { maxLength: 5 }), (records) => {
      const parcel = emptyParcel()
      for (const record of records) pack(parcel, record)
      // Without the prototypes that fast-check leaves out.
      assert.deepEqual(unpack(structuredClone(parcel)), structuredClone(records))
    }),
  )
})
