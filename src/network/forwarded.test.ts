import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import fc from 'fast-check'
import { addressOf, balancersAt, type ForwardedHeader, wasForwarded } from './forwarded.ts'

const asked = (from: string, headers: Record<string, string> = {}) => ({ socket: { remoteAddress: from }, headers }) as unknown as IncomingMessage

function seen(trusted: readonly string[], from: string, headers: Record<string, string>, header: ForwardedHeader = 'x-forwarded-for'): string {
  const request = asked(from, headers)
  balancersAt(trusted, header).note(request)
  return addressOf(request)
}

test('nobody but a configured balancer says where a request came from', () => {
  assert.equal(seen([], '10.0.0.1', { 'x-forwarded-for': '8.8.8.8' }), '10.0.0.1')
  assert.equal(seen(['10.0.0.0/24'], '10.0.1.1', { 'x-forwarded-for': '8.8.8.8' }), '10.0.1.1')
  assert.equal(seen(['10.0.0.0/24'], '10.0.0.1', { 'x-forwarded-for': '8.8.8.8' }), '8.8.8.8')
})

test('what a client writes before the balancer stays what the client wrote', () => {
  assert.equal(seen(['10.0.0.1'], '10.0.0.1', { 'x-forwarded-for': '127.0.0.1, 8.8.8.8' }), '8.8.8.8')
  assert.equal(seen(['10.0.0.0/24'], '10.0.0.1', { 'x-forwarded-for': '127.0.0.1, 8.8.8.8, 10.0.0.9' }), '8.8.8.8')
  assert.equal(seen(['10.0.0.1'], '10.0.0.1', { 'x-forwarded-for': '8.8.8.8, unknown' }), '10.0.0.1')
})

test('one header alone is read: the other one may have come through the balancer unchanged', () => {
  const both = { 'x-forwarded-for': '1.1.1.1', forwarded: 'for=8.8.8.8;proto=https' }
  assert.equal(seen(['10.0.0.1'], '10.0.0.1', both), '1.1.1.1')
  assert.equal(seen(['10.0.0.1'], '10.0.0.1', both, 'forwarded'), '8.8.8.8')
})

test('addresses are read with ports, brackets and quotes, and mapped ones are what they map', () => {
  const one = (value: string, header: ForwardedHeader = 'x-forwarded-for') => seen(['10.0.0.1'], '::ffff:10.0.0.1', { [header]: value }, header)
  assert.equal(one('8.8.8.8:4711'), '8.8.8.8')
  assert.equal(one('[2001:4860::1]:4711'), '2001:4860::1')
  assert.equal(one('2001:4860::1'), '2001:4860::1')
  assert.equal(one('for="[2001:4860::1]:4711";by=10.0.0.1', 'forwarded'), '2001:4860::1')
  assert.equal(one('by=x;for=8.8.8.8', 'forwarded'), '8.8.8.8')
  assert.equal(one('for=_hidden', 'forwarded'), '10.0.0.1')
})

test('everybody is no balancer, and what is no range is refused', () => {
  for (const wrong of ['0.0.0.0/0', '::/0', '10.0.0.0/33', 'balancer.test', '10.0.0.1/8/9', ''])
    assert.throws(() => balancersAt([wrong]), /usage|neither|everybody/, wrong)
})

test('somebody between who was not configured is seen all the same', () => {
  assert.equal(wasForwarded(asked('127.0.0.1')), false)
  for (const name of ['x-forwarded-for', 'forwarded', 'via', 'x-real-ip']) assert.equal(wasForwarded(asked('127.0.0.1', { [name]: 'x' })), true)
})

test('whatever the header holds, an address is what comes of it', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), fc.constantFrom<ForwardedHeader>('x-forwarded-for', 'forwarded'), (value, header) => {
      assert.match(seen(['10.0.0.1'], '10.0.0.1', { [header]: value }, header), /^[0-9a-fA-F:.]+(%\w+)?$/)
    }),
  )
})
