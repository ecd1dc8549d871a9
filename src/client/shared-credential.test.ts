import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../clock.ts'
import { heldOf } from './credential.ts'
import { sharedCredential } from './shared-credential.ts'

async function file(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-shared-'))
  t.after(() => rm(dir, { recursive: true }))
  return { dir, path: join(dir, 'agent.json') }
}

const held = heldOf('a:1', 'key', {
  identity: { id: 'agt_1', name: 'ci', kind: 'agent' },
  session: 'ses_1',
  certificate: 'cert',
  notAfter: 1,
  sessionUntil: 2,
  bundles: { trustDomain: 't', identity: '', server: '' },
  listeners: { data: ':1', web: ':2', postgres: ':3' },
})

test('what one process saves another one reads, and what is gone is nothing', async (t) => {
  const { path } = await file(t)
  assert.equal(await sharedCredential(path).read(), undefined)
  await sharedCredential(path).save(held)
  assert.deepEqual(await sharedCredential(path).read(), held)
})

test('one at a time works on it, also when one fails, and nothing is left behind', async (t) => {
  const { dir, path } = await file(t)
  let inside = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++inside)
    await new Promise((done) => setImmediate(done))
    inside--
    if (most > 5) throw new Error('never')
  }
  const failing = sharedCredential(path).exclusively(() => Promise.reject(new Error('x')))
  await assert.rejects(failing)
  await Promise.all(Array.from({ length: 4 }, () => sharedCredential(path).exclusively(work)))
  assert.equal(most, 1)
  assert.deepEqual(await readdir(dir), [])
})

test('a process that was killed at it stops the others for a minute at the most', async (t) => {
  const { path } = await file(t)
  const guard = `${path}.renewing`
  await writeFile(guard, '1\n')
  const old = (systemClock.now() - 61_000) / 1000
  await utimes(guard, old, old)
  assert.equal(await sharedCredential(path).exclusively(async () => 'mine'), 'mine')
})

test('who took longer than that, because the machine slept, does not open the door for a third one', async (t) => {
  const { path } = await file(t)
  const guard = `${path}.renewing`
  const [slept, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const first = sharedCredential(path).exclusively(() => slept.promise)
  let text = ''
  while (text === '') text = await readFile(guard, 'utf8').catch(() => '')
  const old = (systemClock.now() - 61_000) / 1000
  await utimes(guard, old, old)
  const begun = Promise.withResolvers<void>()
  const other = sharedCredential(path).exclusively(async () => {
    begun.resolve()
    await second.promise
  })
  await begun.promise
  slept.resolve()
  await first
  assert.notEqual(await readFile(guard, 'utf8'), text, 'it is still that of the second')
  second.resolve()
  await other
  await assert.rejects(readFile(guard), { code: 'ENOENT' })
})
