import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { openStore } from '../store/open.ts'
import { openKeyring } from './keyring.ts'
import { loadRootKey } from './root-key.ts'

async function place(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-keys-'))
  const dataDir = join(dir, 'data')
  await mkdir(dataDir)
  const store = await openStore({ dataDir }, { clock: systemClock })
  t.after(async () => {
    await store.close()
    await rm(dir, { recursive: true, force: true })
  })
  return { dir, dataDir, store }
}

const refused = (code: ReasonCode, message: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === code && message.test(error.message)

test('a root key is made on the first start, readable by its owner alone, and never again', async (t) => {
  const { dir, dataDir, store } = await place(t)
  const createAt = join(dir, 'made', 'root.key')
  const made = await loadRootKey({ store, dataDir, createAt })
  assert.equal(made.source, `file:${createAt}`)
  assert.equal((await stat(createAt)).mode & 0o777, 0o600)
  const text = await readFile(createAt, 'utf8')
  await openKeyring(store, made, systemClock)

  await openKeyring(store, await loadRootKey({ store, dataDir, createAt }), systemClock)
  assert.equal(await readFile(createAt, 'utf8'), text)

  await rm(createAt)
  await assert.rejects(loadRootKey({ store, dataDir, createAt }), refused('key_mismatch', /missing/))
  await assert.rejects(stat(createAt), { code: 'ENOENT' })
})

test('another root key is found at the start, and the message says which file was tried', async (t) => {
  const { dir, store } = await place(t)
  const file = async (name: string) => {
    await writeFile(join(dir, name), randomBytes(32).toString('base64'), { mode: 0o600 })
    return join(dir, name)
  }
  await openKeyring(store, await loadRootKey({ store, file: await file('right.key') }), systemClock)
  const wrong = await loadRootKey({ store, file: await file('wrong.key') })
  await assert.rejects(openKeyring(store, wrong, systemClock), refused('key_mismatch', /wrong\.key/))
})

test('rule 5: a root key that others can read, or that lies in the data directory, is refused', async (t) => {
  const { dir, dataDir, store } = await place(t)
  const file = join(dir, 'root.key')
  await writeFile(file, randomBytes(32).toString('base64'))
  await chmod(file, 0o640)
  await assert.rejects(loadRootKey({ store, file }), refused('key_mismatch', /Other users may read/))
  await chmod(file, 0o400)
  await loadRootKey({ store, dataDir, file })

  const inside = join(dataDir, 'root.key')
  await assert.rejects(loadRootKey({ store, dataDir, createAt: inside }), refused('key_mismatch', /inside the data directory/))
  await assert.rejects(stat(inside), { code: 'ENOENT' })
  await writeFile(inside, randomBytes(32).toString('base64'), { mode: 0o600 })
  await symlink(inside, join(dir, 'link.key'))
  await assert.rejects(loadRootKey({ store, dataDir, file: join(dir, 'link.key') }), refused('key_mismatch', /inside the data directory/))
})

test('what is not a root key is refused: missing, empty, too short, not base64, a directory', async (t) => {
  const { dir, store } = await place(t)
  const file = join(dir, 'root.key')
  await assert.rejects(loadRootKey({ store, file }), refused('key_mismatch', /cannot be read/))
  for (const text of [
    '',
    'c2hvcnQ=',
    randomBytes(33).toString('base64'),
    `${randomBytes(32).toString('base64')}!`,
    randomBytes(32).toString('hex'),
  ]) {
    await writeFile(file, text, { mode: 0o600 })
    await assert.rejects(loadRootKey({ store, file }), refused('key_mismatch', /does not hold a root key/), text)
  }
  await assert.rejects(loadRootKey({ store, file: dir }), refused('key_mismatch', /not a key file/))
  await assert.rejects(loadRootKey({ store }), refused('key_mismatch', /No root key/))
})

test('a systemd credential is used when no file is named', async (t) => {
  const { dir, store } = await place(t)
  await writeFile(join(dir, 'chaperone-root-key'), randomBytes(32).toString('base64'), { mode: 0o400 })
  const key = await loadRootKey({ store, credentialsDirectory: dir, createAt: join(dir, 'unused.key') })
  assert.equal(key.source, `file:${join(dir, 'chaperone-root-key')}`)
  await assert.rejects(stat(join(dir, 'unused.key')), { code: 'ENOENT' })
})

test('a passphrase gives the same key again from the salt in the store, and another passphrase another', async (t) => {
  const { dir, store } = await place(t)
  const file = join(dir, 'passphrase')
  const load = async (text: string) => {
    await writeFile(file, text, { mode: 0o600 })
    return loadRootKey({ store, passphraseFile: file })
  }
  const wrapped = await (await load('correct horse battery\n')).wrap(Buffer.from('x'), 'here')
  assert.equal(Buffer.from(await (await load('correct horse battery')).unwrap(wrapped, 'here')).toString(), 'x')
  await assert.rejects((await load('correct horse batterY')).unwrap(wrapped, 'here'), refused('key_mismatch', /does not open/))
  await assert.rejects(load('short'), refused('key_mismatch', /too short/))
  await assert.rejects(loadRootKey({ store, file, passphraseFile: file }), refused('usage', /both/))
})

test('rule 5: neither the key nor the passphrase shows in an error or when the root key is printed', async (t) => {
  const { dir, store } = await place(t)
  const secret = randomBytes(32).toString('base64')
  const file = join(dir, 'root.key')
  await writeFile(file, `${secret} trailing`, { mode: 0o600 })
  const error = await loadRootKey({ store, file }).catch((thrown: unknown) => thrown)
  const { inspect } = await import('node:util')
  assert.ok(!inspect(error, { depth: 9 }).includes(secret.slice(0, 10)))
  await writeFile(file, secret)
  const shown = inspect(await loadRootKey({ store, file }), { depth: 9, showHidden: true })
  assert.ok(!shown.includes(secret.slice(0, 10)))
})
