import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CertificateAuthority, TTL } from '../ca/types.ts'
import { manualClock } from '../clock.ts'
import { listenerCertificates } from './certificates.ts'

const turns = async () => {
  for (let i = 0; i < 10; i++) await new Promise((done) => setImmediate(done))
}

test('rule 11: an authority that gives no more certificates is asked ever again, also past the end of the last one, and not without a pause', async () => {
  const clock = manualClock(0)
  const failures: unknown[] = []
  let isDown = false
  const bundle = '-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n'
  const ca = {
    issueServer: async ({ notAfter }: { notAfter: number }) => {
      if (isDown) throw new Error('down')
      return { certificate: bundle, notAfter }
    },
    bundle: async () => bundle,
    onChange: () => () => {},
  } as unknown as CertificateAuthority
  const certificates = await listenerCertificates({ ca, clock, names: ['localhost'], failed: (error) => failures.push(error) })
  isDown = true
  // Into the last second of it, and past it.
  for (let left = TTL.longestMs; left > 1; left /= 2) {
    clock.advance(left / 2)
    await turns()
  }
  clock.advance(1_000)
  await turns()
  const before = failures.length
  assert.ok(before > 2, 'it was tried again and again')
  for (let i = 0; i < 100; i++) {
    clock.advance(10)
    await turns()
  }
  assert.ok(failures.length - before <= 1, `${failures.length - before} times in a second`)
  clock.advance(10_000)
  await turns()
  isDown = false
  clock.advance(10_000)
  await turns()
  const now = failures.length
  clock.advance(60_000)
  await turns()
  assert.equal(failures.length, now, 'it has one again')
  await certificates.close()
})
