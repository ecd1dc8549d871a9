import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Invitation } from '../../src/api/contract.ts'
import { issuerOf, keepCredential } from '../../src/client/credential.ts'
import { join } from '../../src/client/sign-in.ts'
import { apply, connect, door, freePort, governed, governedDatabase, unrenewed } from '../parts/governed.ts'

const skip = process.env.CHAPERONE_DEEP ? false : 'waits out the shortest life of a certificate, 30 s: npm run test:deep'

test('rule 4: a connection outlives its certificate when the session proves a newer one, and only then', { skip, timeout: 90_000 }, async (t) => {
  const { dir, server, dana } = await governed(t)
  const port = await freePort()
  await apply(
    dana,
    `
kind: postgres
name: things
spec: { address: "localhost:${port}", databases: [postgres] }
---
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [reader] }
---
kind: role
name: reader
spec:
  allow:
    - { postgres: things, databases: [postgres], as: reader, can: read }
`,
  )
  await governedDatabase(t, server, 'things', { port, dir, user: 'reader' })
  const joined = async () => {
    const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'boris-ai' })
    return join(invitation, { ttl: '30s' })
  }

  const renewing = await joined()
  const issuer = issuerOf(renewing, { client: 'test' })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  t.after(() => keeper.close())
  const living = await connect(t, await door(t, keeper, 'things', 'postgres'), 'reader', 'postgres')

  const stolen = await joined()
  const held = { key: stolen.key, certificate: stolen.certificate, notAfter: stolen.notAfter, profile: stolen }
  const dying = await connect(t, await door(t, unrenewed(held), 'things', 'postgres'), 'reader', 'postgres')
  const died = new Promise<number>((done) => dying.once('end', () => done(Date.now())))

  const late = (await Promise.race([died, wait(35_000).then(() => Number.POSITIVE_INFINITY)])) - stolen.notAfter
  assert.ok(Math.abs(late) < 1_500, `cut ${late} ms after the end of the certificate`)
  await wait(Math.max(0, stolen.notAfter + 5_000 - Date.now()))
  assert.equal((await living.query('SELECT count(*)::int AS count FROM things')).rows[0]?.count, 2)
})
