import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Approvers } from '../../policy/types.ts'
import { type Asker, areMet, behind, standingOf, type Voter, whoDecides } from './approvers.ts'
import type { Need } from './types.ts'

/** boris has bot and sub, dana has danabot; `lead` and the verb `approve` are held by nearly everybody, so that only who they are decides. */
const OWNERS: Readonly<Record<string, string>> = { agt_bot: 'usr_boris', agt_sub: 'usr_boris', agt_danabot: 'usr_dana' }
const person: Asker['person'] = (id) => ({ kind: id.startsWith('usr_') ? 'user' : 'agent', ownerId: OWNERS[id] })
const askedBy = (...ids: string[]): Asker => ({ identityId: ids.at(-1)!, chain: ids.map((identity) => ({ identity })), person })
const voter = (id: string, more: Partial<Voter> = {}): Voter => ({
  ...{ id, name: id.slice(4), kind: id.startsWith('usr_') ? 'user' : 'agent', links: 1, roles: ['lead'], approves: true },
  ...more,
})
const need = (approvers: Approvers | undefined, link = 'agt_bot'): Need => ({ approvers, link })

const EVERY_KIND: readonly (Approvers | undefined)[] = [
  undefined,
  { role: 'lead' },
  { users: ['boris', 'dana', 'bot', 'sub', 'danabot'] },
  { role: ['other', 'lead'], count: 1 },
  { all: [{ role: 'lead' }] },
]

const SELF: readonly { readonly how: string; readonly asker: Asker; readonly voter: Voter }[] = [
  { how: 'the one who asked', asker: askedBy('usr_boris'), voter: voter('usr_boris') },
  { how: 'the person behind his agent', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('usr_boris') },
  { how: 'the owner of an agent that asks for itself', asker: askedBy('agt_bot'), voter: voter('usr_boris') },
  { how: 'the owner of an agent further up the chain', asker: askedBy('agt_danabot', 'agt_bot'), voter: voter('usr_dana') },
  { how: 'the owner of the last agent of another person’s chain', asker: askedBy('usr_boris', 'agt_danabot'), voter: voter('usr_dana') },
  { how: 'the person at the head of a long chain', asker: askedBy('usr_boris', 'agt_bot', 'agt_sub'), voter: voter('usr_boris') },
  { how: 'the agent itself', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('agt_bot') },
  { how: 'the agent in the middle of the chain', asker: askedBy('usr_boris', 'agt_bot', 'agt_sub'), voter: voter('agt_bot') },
  { how: 'another agent of the same person', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('agt_sub') },
  { how: 'an agent of somebody else, on its own', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('agt_danabot') },
  { how: 'a client of somebody else, in his name', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('agt_danabot', { links: 2 }) },
  { how: 'somebody else, but in a chain', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('usr_dana', { links: 2 }) },
  {
    how: 'the operator who issued the credential that asks',
    asker: { ...askedBy('agt_bot'), issuers: new Set(['usr_dana']) },
    voter: voter('usr_dana'),
  },
  { how: 'a node', asker: askedBy('usr_boris', 'agt_bot'), voter: voter('nod_1', { kind: 'node' }) },
]

for (const { how, asker, voter } of SELF) {
  test(`rule 12: no yes of ${how} is an approval`, () => {
    for (const approvers of EVERY_KIND) {
      assert.equal(areMet(asker, [need(approvers)], [voter], false), false, JSON.stringify(approvers))
      assert.ok(standingOf(asker, [need(approvers)], voter, false).no)
      const escalating = { ...need({ users: ['nobody'] }), escalate: { afterMs: 1, approvers: approvers ?? { role: 'lead' } } }
      assert.equal(areMet(asker, [escalating], [voter], true), false, 'nor when it escalates')
    }
  })
}

test('an approver of the rule approves, and one that it does not name does not', () => {
  const asker = askedBy('usr_boris', 'agt_bot')
  for (const approvers of EVERY_KIND) assert.equal(areMet(asker, [need(approvers)], [voter('usr_dana')], false), true)
  for (const approvers of EVERY_KIND.slice(1))
    assert.equal(areMet(asker, [need(approvers)], [voter('usr_erin', { roles: [] })], false), false, JSON.stringify(approvers))
  assert.equal(areMet(asker, [need(undefined)], [voter('usr_erin', { approves: false })], false), false)
  assert.equal(areMet(asker, [], [voter('usr_dana')], false), false, 'a request that names nobody is answered by nobody')
})

test('who can say yes is said in one form; once nobody answered in time, with those who stand in', () => {
  const escalating = { ...need({ role: 'lead' }), escalate: { afterMs: 1, approvers: { users: ['erin'] } } }
  const needs = [escalating, need('owner'), need({ all: [{ role: ['dba', 'lead'], count: 2 }, { users: ['dana'] }] })]
  const others = 'the person behind the agent, and 2 of: holders of role dba or lead, and dana'
  assert.equal(whoDecides({ kind: 'call', needs }), `a holder of role lead, and ${others}`)
  assert.equal(whoDecides({ kind: 'call', needs, escalatedAt: 1 }), `a holder of role lead or erin, and ${others}`)
  assert.equal(whoDecides({ kind: 'access', needs: [need(undefined)] }), 'an approver')
  assert.equal(whoDecides({ kind: 'server', needs: [] }), 'whoever may apply documents')
})

test('rule 12: `owner` is the person behind the agent, and a confirmation stands for no approval', () => {
  const asker = askedBy('usr_boris', 'agt_bot')
  assert.equal(behind(asker, 'agt_bot'), 'usr_boris')
  assert.equal(behind(askedBy('agt_bot'), 'agt_bot'), 'usr_boris')
  assert.equal(behind(askedBy('usr_boris'), 'usr_boris'), undefined, 'nobody is behind a person')
  const boris = voter('usr_boris')
  assert.equal(areMet(asker, [need('owner')], [boris], false), true)
  assert.deepEqual(standingOf(asker, [need('owner')], boris, false), { own: true, confirms: true })
  assert.equal(areMet(asker, [need('owner')], [voter('usr_dana')], false), false, 'no approval stands for a confirmation')
  assert.equal(areMet(asker, [need('owner'), need({ role: 'lead' })], [boris], false), false)
  assert.equal(areMet(asker, [need('owner'), need({ role: 'lead' })], [boris, voter('usr_dana')], false), true)
  assert.equal(areMet(asker, [need('owner')], [voter('usr_boris', { links: 2 })], false), false, 'not by a client of his')
  assert.equal(areMet(asker, [need('owner')], [voter('agt_bot')], false), false)
  const escalating: Need = { ...need({ role: 'nobody' }), escalate: { afterMs: 1, approvers: 'owner' } }
  assert.equal(areMet(asker, [escalating], [boris], true), false, 'what escalates to the owner would be an approval by confirmation')
})

test('who stands in counts once it has escalated, and not before', () => {
  const asker = askedBy('usr_boris', 'agt_bot')
  const escalating: Need = { ...need({ role: 'nobody' }), escalate: { afterMs: 1, approvers: { users: ['dana'] } } }
  assert.equal(areMet(asker, [escalating], [voter('usr_dana')], false), false)
  assert.equal(areMet(asker, [escalating], [voter('usr_dana')], true), true)
})

test('rule 12: groups are met by different people, each need by itself', () => {
  const asker = askedBy('usr_boris', 'agt_bot')
  const both = need({ all: [{ role: 'lead' }, { users: ['dana'] }] })
  const [dana, dave] = [voter('usr_dana'), voter('usr_dave')]
  assert.equal(areMet(asker, [both], [dana], false), false, 'she is of both groups, and one person')
  assert.equal(areMet(asker, [both], [dana, dave], false), true)
  assert.equal(areMet(asker, [both], [dave, dana], false), true, 'whoever came first')
  assert.equal(areMet(asker, [both], [dave, voter('usr_erin')], false), false, 'dana is missing')
  const two = need({ role: 'lead', count: 2 })
  assert.equal(areMet(asker, [two], [dana], false), false)
  assert.equal(areMet(asker, [two], [dana, dave], false), true)
  assert.equal(areMet(asker, [need({ role: 'lead' }), need({ users: ['dana'] })], [dana], false), true, 'one person may meet two needs')
})

test('people fill the groups exactly when there is a way to seat them', () => {
  const people = ['usr_a', 'usr_b', 'usr_c', 'usr_d']
  const group = fc.record({ users: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1 }), count: fc.integer({ min: 1, max: 2 }) })
  fc.assert(
    fc.property(fc.array(group, { minLength: 1, maxLength: 3 }), fc.subarray(people), (all, yes) => {
      const seats = all.flatMap(({ users, count }) => Array.from({ length: count }, () => users))
      // Every way to seat them, tried one after the other.
      const seatable = (at: number, left: readonly string[]): boolean =>
        at === seats.length ||
        left.some(
          (id) =>
            (seats[at] as readonly string[]).includes(id.slice(4)) &&
            seatable(
              at + 1,
              left.filter((other) => other !== id),
            ),
        )
      const found = areMet(
        askedBy('usr_boris', 'agt_bot'),
        [need({ all })],
        yes.map((id) => voter(id, { roles: [] })),
        false,
      )
      assert.equal(found, seatable(0, yes))
    }),
  )
})
