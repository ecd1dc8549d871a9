import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { issuerOf, keepCredential } from '../../src/client/credential.ts'
import { connect, door, governed, joined, READER, things, unrenewed } from '../parts/governed.ts'

const skip = process.env.CHAPERONE_DEEP ? false : 'waits out the shortest life of a certificate, 30 s: npm run test:deep'

test('rule 4: a connection outlives its certificate when the session proves a newer one, and only then', { skip, timeout: 180_000 }, async (t) => {
  const own = await governed(t)
  await things(
    t,
    own,
    `kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [reader] }
---
${READER}`,
  )

  const issuer = issuerOf((await joined(own.dana, 'boris-ai', '30s')).profile, { client: 'test' })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  t.after(() => keeper.close())
  const living = await connect(t, await door(t, keeper, 'things', 'postgres'), 'reader', 'postgres')

  const stolen = await joined(own.dana, 'boris-ai', '30s')
  const dying = await connect(t, await door(t, unrenewed(stolen), 'things', 'postgres'), 'reader', 'postgres')
  const died = new Promise<number>((done) => dying.once('end', () => done(Date.now())))

  const late = (await Promise.race([died, wait(60_000).then(() => Number.POSITIVE_INFINITY)])) - stolen.notAfter
  // Not before its end; and how soon a machine that has much else to do comes to it, says nothing.
  assert.ok(late > -1_500 && late < 20_000, `cut ${late} ms after the end of the certificate`)
  await wait(Math.max(0, stolen.notAfter + 5_000 - Date.now()))
  assert.equal((await living.query('SELECT count(*)::int AS count FROM things')).rows[0]?.count, 2)
})
