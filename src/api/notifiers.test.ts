import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NotifierList } from './contract.ts'
import { openHouse } from './house.fixture.ts'

const DOCUMENT = `kind: notifier
name: ops
spec:
  on: [request.made, lock.made]
  webhook: { url: "http://127.0.0.1:1/", insecure: true, secret: hook }
`

test('rule 9: who lists notifiers or tests one needs a verb for it; what failed is said without the secret', async (t) => {
  const { ask, signIn } = await openHouse(t)
  const [dana, boris] = [await signIn('dana'), await signIn('boris')]
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  assert.equal((await ask(dana, 'PUT', '/v1/secrets/hook', { value: secret })).status, 200)
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: DOCUMENT }] })).status, 200)
  for (const [method, path, body] of [
    ['GET', '/v1/notifiers', undefined],
    ['POST', '/v1/notifiers/ops/test', {}],
  ] as const)
    assert.equal((await ask(boris, method, path, body)).code, 'no_rule')
  const { notifiers } = (await ask(dana, 'GET', '/v1/notifiers')).value as unknown as NotifierList
  assert.deepEqual(notifiers, [{ name: 'ops', way: 'webhook', on: ['request.made', 'lock.made'], waiting: 0, done: 0, givenUp: 0 }])
  const { value } = await ask(dana, 'POST', '/v1/notifiers/ops/test', {})
  assert.deepEqual(value, { ok: false, error: 'ECONNREFUSED' })
  assert.equal((await ask(dana, 'POST', '/v1/notifiers/nobody/test', {})).code, 'not_found')
})
