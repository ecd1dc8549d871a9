import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { claimDataDir } from './data-dir.ts'

async function place(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-data-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const refused = (code: ReasonCode, message: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === code && message.test(error.message) && error.fix !== undefined

const script = `
  const { claimDataDir } = await import(${JSON.stringify(new URL('./data-dir.ts', import.meta.url).href)})
  await claimDataDir(process.argv[1])
  console.log('mine')
  setInterval(() => {}, 1000)`

test('the directory is made for its owner alone', async (t) => {
  const path = join(await place(t), 'new', 'data')
  const dir = await claimDataDir(path)
  t.after(() => dir.release())
  assert.equal((await stat(path)).mode & 0o777, 0o700)
})

test('a directory that others can enter, or that is none, is refused with what to do', async (t) => {
  const path = await place(t)
  for (const mode of [0o750, 0o701, 0o770]) {
    await chmod(path, mode)
    await assert.rejects(claimDataDir(path), refused('store_unavailable', /open to other users/))
  }
  await chmod(path, 0o700)
  await writeFile(join(path, 'file'), '')
  await assert.rejects(claimDataDir(join(path, 'file')), refused('store_unavailable', /not a directory|cannot be made/))
  await assert.rejects(claimDataDir(join(path, 'file', 'below')), refused('store_unavailable', /cannot be made/))
})

test("another user's directory is refused", { skip: process.geteuid?.() === 0 ? false : 'needs root, to give a directory away' }, async (t) => {
  const path = await place(t)
  const { chown } = await import('node:fs/promises')
  await chown(path, 65534, 65534)
  await assert.rejects(claimDataDir(path), refused('store_unavailable', /belongs to another user/))
})

test('a second Chaperone does not start on the same directory, and does after the first was killed', async (t) => {
  const path = await place(t)
  const first = spawn(process.execPath, ['--input-type=module', '-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => first.kill('SIGKILL'))
  await once(first.stdout, 'data')
  await assert.rejects(claimDataDir(path), refused('already_running', /Another Chaperone runs/))
  first.kill('SIGKILL')
  await once(first, 'exit')
  const mine = await claimDataDir(path)
  await assert.rejects(claimDataDir(path), refused('already_running', /Another Chaperone runs/))
  mine.release()
  ;(await claimDataDir(path)).release()
})
