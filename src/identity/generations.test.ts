import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { createIdentity } from './directory.ts'
import { confirmGeneration, generationOf, takeGeneration } from './generations.ts'
import { makeLock } from './locks.ts'

const start = Date.UTC(2026, 10, 22, 12)
const clock = manualClock(start)
let dir: string
let store: Store
let identityId: string

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-generations-'))
  store = await openStore({ dataDir: dir }, { clock })
  identityId = await store.write(async (trx) => (await createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now: start })).id)
})
after(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

async function session(): Promise<string> {
  const id = newId('ses', clock.now())
  await store.write((trx) =>
    trx
      .insertInto('sessions')
      .values({
        ...{ id, identity_id: identityId, chain: '[]', how: 'join', client: null, purpose: null, issuer_id: null, parent_id: null },
        ...{ started_at: start, expires_at: start + 3_600_000, ended_at: null, end_reason: null, factor_at: null, last_used_at: null },
        ...{ newest_credential: null, previous_credential: null },
      })
      .execute(),
  )
  return id
}

/** A renewal, seconds after whatever came before. */
async function renew(sessionId: string, asked: string) {
  clock.advance(1_000)
  const next = newId('crd', clock.now())
  return { next, generation: await takeGeneration(store, { sessionId, asked, next, now: clock.now() }) }
}

const [old, before1, newest, future] = [1, 2, 3, 4].map((at) => newId('crd', start + at)) as [string, string, string, string]

test('which of its credentials asks decides what a renewal is', () => {
  const row = (newest_credential: string | null, previous_credential: string | null) => ({ newest_credential, previous_credential })
  assert.equal(generationOf(row(null, null), old), 'newest', 'nothing was renewed yet')
  assert.equal(generationOf(row(newest, null), newest), 'newest')
  assert.equal(generationOf(row(newest, before1), newest), 'newest')
  assert.equal(generationOf(row(newest, before1), before1), 'lost', 'the answer got lost: nobody has shown the newest')
  assert.equal(generationOf(row(newest, null), before1), 'copy', 'the newest was shown')
  assert.equal(generationOf(row(newest, before1), old), 'copy')
  // Peers R65: yesterday's backup knows less than the credential.
  assert.equal(generationOf(row(newest, null), future), 'ahead')
})

test('a renewal whose answer got lost is asked again, until the newer one was shown', async () => {
  const id = await session()
  const first = newId('crd', clock.now())
  const lost = await renew(id, first)
  const again = await renew(id, first)
  assert.deepEqual([lost.generation, again.generation], ['newest', 'lost'])
  await confirmGeneration(store, id, lost.next)
  assert.equal((await renew(id, first)).generation, 'lost', 'what was overtaken confirms nothing')
  const { next } = await renew(id, first)
  await confirmGeneration(store, id, next)
  assert.equal((await renew(id, first)).generation, 'copy')
})

test('of two who renew the same credential at the same moment one is found out at the next, whoever it is', async () => {
  const id = await session()
  const first = newId('crd', clock.now())
  const both = await Promise.all([renew(id, first), renew(id, first)])
  const [one, two] = both.map(({ next }) => next) as [string, string]
  await confirmGeneration(store, id, one)
  await confirmGeneration(store, id, two)
  const outcomes = [(await renew(id, one)).generation, (await renew(id, two)).generation]
  assert.ok(outcomes.includes('copy'), String(outcomes))
})

test('rule 6: a lock that came while the request was under way stops the renewal', async () => {
  const id = await session()
  const first = newId('crd', clock.now())
  await store.reduce((trx) => makeLock(trx, { kind: 'credential', target: first, reason: 'found in a paste', now: clock.now() }))
  await assert.rejects(renew(id, first), (error: unknown) => error instanceof ChaperoneError && error.code === 'locked')
  await store.reduce((trx) => makeLock(trx, { kind: 'session', target: id, reason: 'found in a paste', now: clock.now() }))
  await assert.rejects(renew(id, newId('crd', clock.now())), (error: unknown) => error instanceof ChaperoneError && error.code === 'locked')
})

test('an honest holder never trips it, whatever is lost; a copy at work beside him always does', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('ok', 'answer lost', 'proof lost'), { minLength: 1, maxLength: 12 }),
      fc.nat({ max: 11 }),
      async (losses, stolenAt) => {
        const id = await session()
        let held = newId('crd', clock.now())
        let copy: string | undefined
        for (const [i, loss] of losses.entries()) {
          if (i === stolenAt) copy = held
          const { next, generation } = await renew(id, held)
          assert.notEqual(generation, 'copy', 'an honest holder')
          if (loss === 'answer lost') continue
          // The proof arrives, or only its answer does not: the holder shows the same one again, and never renews the older one.
          await confirmGeneration(store, id, next)
          held = next
        }
        if (copy === undefined) return
        const thief = await renew(id, copy)
        // He came first: then it is the honest one who finds out, and both are cut all the same.
        if (thief.generation !== 'copy') {
          await confirmGeneration(store, id, thief.next)
          assert.equal((await renew(id, held)).generation, 'copy')
        }
      },
    ),
    { numRuns: 15 },
  )
})
