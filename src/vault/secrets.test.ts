import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { manualClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openStore } from '../store/open.ts'
import { openVault } from './secrets.ts'

async function place(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-vault-'))
  const clock = manualClock(1000)
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dir, { recursive: true, force: true })
    await rm(`${dir}.key`, { force: true })
  })
  const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
  return { store, clock, keyring, vault: openVault(store, keyring, clock) }
}

const refused = (code: ReasonCode) => (error: unknown) => error instanceof ChaperoneError && error.code === code
const SECRET = 'hunter2-hunter2-hunter2'

test('a secret is set, changed, listed without its value, revealed, and gone when deleted', async (t) => {
  const { store, clock, vault } = await place(t)
  await store.write((trx) => vault.set(trx, 'github/token', 'first'))
  clock.advance(5)
  await store.write((trx) => vault.set(trx, 'github/token', SECRET))
  assert.deepEqual(await vault.list(), [{ name: 'github/token', createdAt: 1000, updatedAt: 1005 }])
  assert.equal(await vault.reveal('github/token'), SECRET)
  await store.write((trx) => vault.delete(trx, 'github/token'))
  await assert.rejects(vault.reveal('github/token'), refused('not_found'))
  await assert.rejects(
    store.write((trx) => vault.delete(trx, 'github/token')),
    refused('not_found'),
  )
})

test('rule 5: a secret is in no row, no error and no printed vault', async (t) => {
  const { store, vault } = await place(t)
  await store.write((trx) => vault.set(trx, 'a', SECRET))
  const { sealed } = await store.db.selectFrom('secrets').selectAll().executeTakeFirstOrThrow()
  assert.ok(!Buffer.from(sealed).includes(SECRET))
  assert.ok(!inspect(vault, { depth: 9, showHidden: true }).includes(SECRET))
  const name = await store.write((trx) => vault.set(trx, `${SECRET}!`, 'x')).catch((error: unknown) => error)
  assert.ok(refused('usage')(name) && !inspect(name, { depth: 9 }).includes(SECRET), 'also when it was typed as the name')
})

test('rule 5: sealed bytes copied to another name do not open', async (t) => {
  const { store, vault } = await place(t)
  await store.write(async (trx) => {
    await vault.set(trx, 'a', SECRET)
    await vault.set(trx, 'b', 'other')
  })
  const { sealed } = await store.db.selectFrom('secrets').select('sealed').where('name', '=', 'a').executeTakeFirstOrThrow()
  await store.db.updateTable('secrets').set({ sealed }).where('name', '=', 'b').execute()
  await assert.rejects(vault.reveal('b'), refused('key_mismatch'))
})

test('rule 11: names and values have their bounds', async (t) => {
  const { store, vault } = await place(t)
  const set = (name: string, value: string) => store.write((trx) => vault.set(trx, name, value))
  for (const name of ['', '/a', '.a', 'a b', 'a'.repeat(129), 'ä']) await assert.rejects(set(name, 'x'), refused('usage'), name)
  await assert.rejects(set('a', ''), refused('usage'))
  await assert.rejects(set('a', 'a\0b'), refused('usage'))
  await assert.rejects(set('a', 'ä'.repeat(32 * 1024 + 1)), refused('too_large'))
  await set('a', 'ä'.repeat(32 * 1024))
  assert.deepEqual((await vault.list()).length, 1)
})

test('rule 5: whoever masks records learns a value before it can be used, and when it is revealed', async (t) => {
  const { store, vault } = await place(t)
  const seen: string[] = []
  const end = vault.onSet((value) => seen.push(value))
  await store.write((trx) => vault.set(trx, 'a', SECRET))
  await vault.reveal('a')
  end()
  await vault.reveal('a')
  assert.deepEqual(seen, [SECRET, SECRET])
})

test('after the key was rotated and everything sealed again, secrets outlive the old key', async (t) => {
  const { store, clock, keyring, vault } = await place(t)
  await store.write((trx) => vault.set(trx, 'a', SECRET))
  await keyring.rotate('vault', 1000)
  assert.equal(await store.write((trx) => vault.sealAgain(trx)), 1)
  clock.advance(2000)
  assert.equal(await vault.reveal('a'), SECRET)
})
