import assert from 'node:assert/strict'
import { sign, verify } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { openStore } from '../store/open.ts'
import { openKeyring } from './keyring.ts'
import { loadRootKey } from './root-key.ts'

async function place(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-keys-'))
  const clock = manualClock(Date.UTC(2026, 0, 1))
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dir, { recursive: true, force: true })
  })
  const open = async () => openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
  t.after(() => rm(`${dir}.key`, { force: true }))
  return { store, clock, open, keyring: await open() }
}

const mismatch = (error: unknown) => error instanceof ChaperoneError && error.code === 'key_mismatch'

test('what was sealed opens with the same purpose and context, and with nothing else changed', async (t) => {
  const { keyring } = await place(t)
  const text = fc.string({ unit: 'binary', maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), text, text, fc.nat(), fc.nat(7), async (plain, context, other, at, bit) => {
      const sealed = await keyring.seal('vault', plain, context)
      assert.deepEqual(new Uint8Array(await keyring.open('vault', sealed, context)), plain)
      await assert.rejects(keyring.open('factors', sealed, context), mismatch)
      await assert.rejects(keyring.open('tokens', sealed, context), mismatch)
      if (other !== context && Buffer.from(other).compare(Buffer.from(context)) !== 0)
        await assert.rejects(keyring.open('vault', sealed, other), mismatch)
      const flipped = Uint8Array.from(sealed)
      flipped[at % flipped.length]! ^= 1 << bit
      await assert.rejects(keyring.open('vault', flipped, context), mismatch)
      await assert.rejects(keyring.open('vault', sealed.subarray(0, at % sealed.length), context), mismatch)
    }),
    { numRuns: 50 },
  )
})

test('two nodes that make the first key of a purpose at once get the same key', async (t) => {
  const { open, keyring } = await place(t)
  const other = await open()
  const ids = await Promise.all([keyring, other, keyring, other].map(async (ring) => (await ring.signer('authority:identity')).id))
  assert.equal(new Set(ids).size, 1)
  const sealed = await keyring.seal('vault', 'secret', 'name')
  assert.equal((await other.open('vault', sealed, 'name')).toString(), 'secret')
})

test('checkpoints are signed with Ed25519, the rest with P-256, and each purpose has its own key', async (t) => {
  const { keyring } = await place(t)
  const purposes = ['checkpoints', 'tokens', 'authority:identity', 'authority:server'] as const
  const signers = await Promise.all(purposes.map((purpose) => keyring.signer(purpose)))
  assert.deepEqual(
    signers.map(({ privateKey }) => privateKey.asymmetricKeyDetails?.namedCurve ?? privateKey.asymmetricKeyType),
    ['ed25519', 'prime256v1', 'prime256v1', 'prime256v1'],
  )
  assert.equal(new Set(signers.map(({ id }) => id)).size, purposes.length)
  const data = Buffer.from('x')
  for (const { privateKey, publicKey } of signers) {
    const digest = privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256'
    assert.ok(verify(digest, data, publicKey, sign(digest, data, privateKey)))
  }
  await assert.rejects(keyring.signer('vault'), { code: 'internal' })
  await assert.rejects(keyring.seal('tokens', 'x', ''), { code: 'internal' })
})

test('after a rotation the old key still opens and verifies until the overlap has passed', async (t) => {
  const { keyring, clock, open, store } = await place(t)
  const sealed = await keyring.seal('vault', 'secret', 'name')
  const before = await keyring.signer('tokens')
  const epoch = await store.epoch()
  const { id } = await keyring.rotate('tokens', 60_000)
  await keyring.rotate('vault', 60_000)
  assert.equal(await store.epoch(), epoch + 2, 'other nodes hear of it')
  assert.equal((await keyring.signer('tokens')).id, id)
  assert.deepEqual(
    (await keyring.verifiers('tokens')).map((key) => key.id),
    [id, before.id],
  )
  assert.equal((await keyring.open('vault', sealed, 'name')).toString(), 'secret')
  clock.advance(60_000)
  assert.deepEqual(
    (await keyring.verifiers('tokens')).map((key) => key.id),
    [id],
  )
  await assert.rejects(keyring.open('vault', sealed, 'name'), mismatch)
  await assert.rejects((await open()).open('vault', sealed, 'name'), mismatch)
})

test('a key that another node rotated in is known after a refresh, and for opening at once', async (t) => {
  const { keyring, open } = await place(t)
  const other = await open()
  const { id } = await other.rotate('tokens', 1000)
  await other.rotate('vault', 1000)
  const sealed = await other.seal('vault', 'secret', 'name')
  assert.equal((await keyring.open('vault', sealed, 'name')).toString(), 'secret')
  await keyring.refresh()
  assert.equal((await keyring.signer('tokens')).id, id)
})

test('rule 5: a key row that was moved to another purpose, or a public half that was swapped, is not believed', async (t) => {
  const { keyring, open, store } = await place(t)
  const { id, publicKey } = await keyring.signer('tokens')
  const foreign = (await keyring.signer('authority:server')).publicKey.export({ format: 'der', type: 'spki' })
  await store.db.updateTable('keys').set({ public_key: foreign }).where('id', '=', id).execute()
  assert.ok((await (await open()).signer('tokens')).publicKey.equals(publicKey))
  await store.db.updateTable('keys').set({ purpose: 'authorities' }).where('id', '=', id).execute()
  await assert.rejects(open(), mismatch)
})
