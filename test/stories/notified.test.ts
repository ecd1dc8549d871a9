import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { signingKey, webhookHeaders } from '../../src/notify/webhook.ts'
import { house } from '../parts/house.ts'

const documents = (url: string) => `kind: role
name: reader
spec: { allow: [{ mcp: any, tools: any }] }
---
kind: role
name: developer
spec: { request: [{ role: reader, max: 30m, reason: required }] }
---
kind: user
name: boris
spec: { roles: [developer] }
---
kind: notifier
name: ops
spec:
  on: [request.made, lock.made, lock.lifted]
  webhook: { url: "${url}", insecure: true, secret: hook }
`

test('who asks for a role, and every lock, is told to a receiver outside, signed, with what is needed to look at it', {
  timeout: 180_000,
}, async (t) => {
  const seen: { readonly headers: Record<string, unknown>; readonly body: string }[] = []
  let wanted = { count: 0, reached: () => {} }
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      seen.push({ headers: request.headers, body })
      response.end()
      if (seen.length >= wanted.count) wanted.reached()
    })
  })
  const came = (count: number) =>
    new Promise<void>((reached) => {
      wanted = { count, reached }
      if (seen.length >= count) reached()
    })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => server.close())

  const { dana, apply, enrol, server: chaperone } = await house(t)
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  await dana.api.call('PUT', '/v1/secrets/hook', { value: secret })
  await apply(documents(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`))
  const boris = await enrol('boris')
  const asked = await boris.api.call<{ id: string }>('POST', '/v1/requests', { kind: 'access', role: 'reader', reason: `see ${secret}` })
  await came(1)
  const lock = await dana.api.call<{ id: string }>('POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'too curious' })
  await came(2)
  await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
  await came(3)

  const [made, locked, lifted] = seen.map(({ body }) => JSON.parse(body))
  assert.deepEqual(
    [made.type, made.data.request, made.data.who.name, made.data.role, made.data.reason],
    ['request.made', asked.id, 'boris', 'reader', 'see [masked:secret]'],
  )
  assert.equal(made.data.link, chaperone.parts.link(asked.id))
  assert.deepEqual([locked.type, locked.data.name, locked.data.by.name, locked.data.reason], ['lock.made', 'boris', 'dana', 'too curious'])
  assert.equal(lifted.type, 'lock.lifted')
  for (const { headers, body } of seen) {
    const id = String(headers['webhook-id'])
    const expected = webhookHeaders(id, Number(headers['webhook-timestamp']), body, [signingKey(secret)])
    assert.equal(headers['webhook-signature'], expected['webhook-signature'])
  }
  const { notifiers } = await dana.api.call<{ notifiers: { name: string; waiting: number; givenUp: number }[] }>('GET', '/v1/notifiers')
  assert.deepEqual([notifiers[0]!.name, notifiers[0]!.givenUp], ['ops', 0])
  assert.match(await chaperone.parts.metrics.text(), /chaperone_notifications_total\{result="done"\} [23]/)
})
