import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ask } from '../../policy/types.ts'
import { type Binding, digestOf, resourceDigest } from './binding.ts'

const call: Binding = {
  identityId: 'agt_bot',
  chain: [{ identity: 'usr_boris' }, { identity: 'agt_bot', delegation: 'dlg_1' }],
  action: { kind: 'tool', operation: 'call', effects: ['write'], resource: { id: 'res_1' } },
  resource: resourceDigest({ env: 'demo' }, { address: 'one' }),
  definition: 'a'.repeat(64),
  bound: 'b'.repeat(64),
}
const asks = (...digests: string[]) => ({
  asks: digests.map(
    (digest): Ask => ({ rule: { document: 'worker', kind: 'role', section: 'ask', index: 0, digest }, link: 'agt_bot', approvers: undefined }),
  ),
})

test('rule 12: an approval is bound to every part of its call: each that differs makes another one', () => {
  const others: readonly [string, Binding, ReturnType<typeof asks>?][] = [
    ['who', { ...call, identityId: 'agt_sub' }],
    ['on whose behalf', { ...call, chain: [{ identity: 'usr_dana' }, call.chain[1]!] }],
    ['by which delegation', { ...call, chain: [call.chain[0]!, { identity: 'agt_bot', delegation: 'dlg_2' }] }],
    ['by no delegation', { ...call, chain: [call.chain[0]!, { identity: 'agt_bot' }] }],
    ['alone', { ...call, chain: [call.chain[1]!] }],
    ['the protocol', { ...call, action: { ...call.action, kind: 'door' } }],
    ['the operation', { ...call, action: { ...call.action, operation: 'other' } }],
    ['the effects', { ...call, action: { ...call.action, effects: ['write', 'egress'] } }],
    ['the resource', { ...call, action: { ...call.action, resource: { id: 'res_2' } } }],
    ['its labels', { ...call, resource: resourceDigest({ env: 'prod' }, { address: 'one' }) }],
    ['its address', { ...call, resource: resourceDigest({ env: 'demo' }, { address: 'two' }) }],
    ['the definition of the tool', { ...call, definition: 'c'.repeat(64) }],
    ['no definition', { ...call, definition: undefined }],
    ['the call itself', { ...call, bound: 'd'.repeat(64) }],
    ['the rule', call, asks('r2')],
    ['another rule as well', call, asks('r1', 'r2')],
    ['the rule for another link', call, { asks: asks('r1').asks.map((ask) => ({ ...ask, link: 'usr_boris' })) }],
    ['no rule', call, asks()],
  ]
  const digests = new Map([[digestOf(call, asks('r1')), 'the call']])
  for (const [what, binding, decision = asks('r1')] of others) {
    const digest = digestOf(binding, decision)
    assert.equal(digests.get(digest), undefined, `${what} is the same as ${digests.get(digest)}`)
    digests.set(digest, what)
  }
})

test('the order of effects and rules, and a rule that is said twice, change nothing', () => {
  const two: Binding = { ...call, action: { ...call.action, effects: ['write', 'egress'] } }
  const turned: Binding = { ...call, action: { ...call.action, effects: ['egress', 'write'] } }
  assert.equal(digestOf(two, asks('r1', 'r2')), digestOf(turned, asks('r2', 'r1', 'r2')))
})
