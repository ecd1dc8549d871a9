import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { fakeChaperone } from '../../test/fakes/chaperone.ts'
import { openApi } from './api.ts'
import { fetchAuthority } from './first-contact.ts'
import { beginEnrolment } from './sign-in.ts'

const start = async (t: TestContext) => {
  const server = await fakeChaperone()
  t.after(() => server.close())
  return server
}

test('the authority that the invitation names is found in what the server presents', async (t) => {
  const server = await start(t)
  const pem = await fetchAuthority({ address: server.address, fingerprint: server.authority.fingerprint })
  assert.equal(pem.trim(), server.authority.certificate.trim())
})

test('no trust on first use: another server learns nothing, not even that somebody came with a secret', async (t) => {
  const impostor = await start(t)
  const { fingerprint } = await fakeAuthority()
  const secret = 'a'.repeat(43)
  await assert.rejects(beginEnrolment(`chaperone://${impostor.address}/${secret}?ca=${fingerprint}`), {
    code: 'credential_invalid',
    message: /is not the one that the line names/,
  })
  assert.deepEqual(impostor.seen, [])
})

test('a server that shows the right authority without holding a certificate of it is refused before anything is sent', async (t) => {
  // An impostor can copy the public certificate of the authority into its chain; then the leaf must fail.
  const { createServer: createTls } = await import('node:tls')
  const right = await fakeAuthority('right')
  const wrong = await (await fakeAuthority('right')).issue(['127.0.0.1'])
  let heard = 0
  const impostor = createTls({ key: wrong.key, cert: `${wrong.certificate}\n${right.certificate}`, minVersion: 'TLSv1.3' }, (socket) => {
    socket.on('data', (chunk) => (heard += chunk.length))
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
  t.after(() => impostor.close())
  const address = `127.0.0.1:${(impostor.address() as { port: number }).port}`
  await assert.rejects(beginEnrolment(`chaperone://${address}/${'a'.repeat(43)}?ca=${right.fingerprint}`), { code: 'credential_invalid' })
  assert.equal(heard, 0)
})

test('nobody there, or nobody who speaks TLS, is said in words', async (t) => {
  const deaf = createServer((socket) => void socket.end('no'))
  await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve))
  t.after(() => deaf.close())
  const address = `127.0.0.1:${(deaf.address() as { port: number }).port}`
  await assert.rejects(fetchAuthority({ address, fingerprint: '0'.repeat(64) }), { code: 'upstream_unavailable' })
  await assert.rejects(fetchAuthority({ address: '127.0.0.1:1', fingerprint: '0'.repeat(64) }), {
    code: 'upstream_unavailable',
    message: /cannot be reached/,
  })
})

test('a server of another authority is not talked to', async (t) => {
  const server = await start(t)
  const other = await fakeAuthority('other')
  const api = openApi({ address: server.address, authorities: other.certificate })
  await assert.rejects(api.call('GET', '/v1/whoami'), { code: 'credential_invalid', message: /not the one you signed in to/ })
  assert.deepEqual(server.seen, [])
})
