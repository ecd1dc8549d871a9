import assert from 'node:assert/strict'
import { test } from 'node:test'
import { postgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { Certificates } from './certificate.ts'

const MINUTE = 60_000

function start() {
  const clock = manualClock(1_000_000)
  const issued: { readonly resourceId: string; readonly user: string; readonly notAfter: number; readonly spki: string }[] = []
  const state = { bundle: 'one', isDown: false }
  const ca = {
    issueDatabase: async ({ spki, resourceId, user, notAfter }: { spki: Uint8Array; resourceId: string; user: string; notAfter: number }) => {
      if (state.isDown) throw new ChaperoneError('internal', 'down')
      issued.push({ resourceId, user, notAfter, spki: Buffer.from(spki).toString('hex') })
      return { certificate: `${resourceId} ${user} ${issued.length}`, serial: '1', notBefore: 0, notAfter }
    },
    bundle: async () => state.bundle,
  }
  const certificates = new Certificates()
  const spec = postgresDatabaseSpec.parse({ address: 'db:5432', databases: ['shop'], credential_ttl: '4m' })
  const get = (resourceId = 'a', user = 'u') => certificates.for({ resourceId, user, spec }, { ca, clock })
  return { clock, issued, state, get }
}

test('connections to one database as one user show one certificate, those that come at once too', async () => {
  const { issued, get } = start()
  const [a, b] = await Promise.all([get(), get()])
  assert.equal(a, b)
  assert.equal(await get(), a)
  assert.equal(issued.length, 1)
})

test('rule 3: another database, another user and another authority is another certificate with another key', async () => {
  const { issued, state, get } = start()
  await get('a', 'u')
  await get('b', 'u')
  await get('a', 'v')
  state.bundle = 'two'
  await get('a', 'u')
  assert.equal(new Set(issued.map(({ spki }) => spki)).size, 4)
})

test('rule 4: nobody is shown with less than half of its life left, and a clock that was set back lengthens none', async () => {
  const { clock, issued, get } = start()
  const first = await get()
  clock.advance(2 * MINUTE - 1)
  assert.equal(await get(), first)
  clock.advance(1)
  assert.notEqual(await get(), first)
  assert.deepEqual(
    issued.map(({ notAfter }) => notAfter - 1_000_000),
    [4 * MINUTE, 6 * MINUTE],
  )
  clock.advance(-3 * MINUTE)
  await get()
  assert.equal(issued.length, 3)
})

test('a certificate that could not be issued is asked for again', async () => {
  const { state, get, issued } = start()
  state.isDown = true
  await assert.rejects(get(), { code: 'internal' })
  state.isDown = false
  await get()
  assert.equal(issued.length, 1)
})
