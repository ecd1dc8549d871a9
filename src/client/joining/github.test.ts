import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { presentGithub } from './github.ts'

const authority = await fakeAuthority('github')
// Of this process alone, which is that of this file.
setDefaultCACertificates([...getCACertificates('default'), authority.certificate])

/** The place where a job asks for its token, which answers as it is told. */
async function job(t: TestContext, answer: (response: ServerResponse) => void) {
  const own = await authority.issue(['127.0.0.1', 'localhost'])
  const server = createServer({ key: own.key, cert: own.chain }, (_, response) => answer(response)).listen(0, '127.0.0.1')
  await new Promise((done) => server.once('listening', done))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const env = {
    ACTIONS_ID_TOKEN_REQUEST_URL: `https://localhost:${(server.address() as AddressInfo).port}/token?v=1`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'secret of the runner',
  }
  const line = { address: 'a:1', fingerprint: 'f', audience: 'https://chaperone' }
  return presentGithub({ line, as: 'ci', csrKey: 'k', challenge: async () => 'n', env }, async ({ token }) => ({ token }) as never)
}

test('the token that GitHub gives is shown', async (t) => {
  assert.deepEqual(await job(t, (response) => void response.end('{"value":"a token"}')), { token: 'a token' })
})

test('an answer that is cut off, too long, or a refusal ends the join with what it was, and nobody waits for ever', {
  timeout: 30_000,
}, async (t) => {
  const cases: readonly [RegExp, (response: ServerResponse) => void][] = [
    [/cut off/, (response) => void response.writeHead(200, { 'content-length': 100 }).write('{"val', () => response.destroy())],
    [/too long/, (response) => void response.end('x'.repeat(70_000))],
    [/status 403/, (response) => void response.writeHead(403).end('no')],
    [/no token/, (response) => void response.end('<html>')],
  ]
  for (const [why, answer] of cases)
    await assert.rejects(job(t, answer), (error: Error & { code: string }) => {
      assert.equal(error.code, 'upstream_unavailable')
      assert.match(error.message, why)
      assert.doesNotMatch(JSON.stringify(error), /secret of the runner/)
      return true
    })
})
