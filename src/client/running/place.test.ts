import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { makePlace, runsFolder, sweepRuns } from './place.ts'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-place-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

test('runs live in memory, in a folder that only their user can enter', async (t) => {
  const shm = await stat('/dev/shm').catch(() => undefined)
  if (!shm) return t.skip('there is no /dev/shm')
  const runs = await runsFolder({})
  assert.deepEqual([runs.inMemory, runs.folder.startsWith('/dev/shm/')], [true, true])
  assert.equal((await stat(runs.folder)).mode & 0o777, 0o700)
})

test('rule 1: a folder that others may enter, made before us in a place that everybody can write to, is not used', async (t) => {
  const dir = await mkdtemp('/dev/shm/chaperone-test-').catch(() => undefined)
  if (!dir) return t.skip('there is no /dev/shm')
  t.after(() => rm(dir, { recursive: true, force: true }))
  await mkdir(join(dir, 'chaperone-run'))
  await chmod(join(dir, 'chaperone-run'), 0o755)
  await assert.rejects(runsFolder({ XDG_RUNTIME_DIR: dir }), { code: 'unavailable_here' })
})

test('what a living runner has stays; what one that is gone left behind goes, after its session was ended', async (t) => {
  const dir = await folder(t)
  const mine = await makePlace({ folder: dir, inMemory: true })
  assert.equal((await stat(mine.folder)).mode & 0o777, 0o700)
  await mkdir(join(dir, 'dead'))
  const note = { address: 'localhost:1', session: 'ses_one' }
  // A process id is given again: that it lives says nothing when it began at another time.
  await writeFile(join(dir, 'dead', 'owner.json'), JSON.stringify({ pid: process.pid, began: '1', note }))
  const told: unknown[] = []
  assert.equal(
    await sweepRuns(dir, async (left) => {
      told.push(left)
      throw new Error('the server is away')
    }),
    1,
  )
  assert.deepEqual(told, [{ id: 'dead', folder: join(dir, 'dead'), note }])
  assert.deepEqual(await readdir(dir), [mine.id])
  await mine.remove()
  assert.deepEqual(await readdir(dir), [])
})

test('a run in a container that shares the folder is nothing that could be judged from here: it stays', {
  skip: process.platform !== 'linux' && 'no /proc',
}, async (t) => {
  const dir = await folder(t)
  const mine = await makePlace({ folder: dir, inMemory: true })
  const owner = join(mine.folder, 'owner.json')
  const { space, ...rest } = JSON.parse(await readFile(owner, 'utf8')) as { space: string }
  assert.match(space, /^pid:\[\d+\]$/)
  for (const [where, swept] of [
    ['pid:[1]', 0],
    [space, 1],
  ] as const) {
    await writeFile(owner, JSON.stringify({ ...rest, pid: 2 ** 22 + 1, began: '1', space: where }))
    assert.equal(await sweepRuns(dir, async () => {}), swept)
  }
  assert.deepEqual(await readdir(dir), [])
})

test('one that is just being made is left alone, and one whose maker never came to an end is not', async (t) => {
  const dir = await folder(t)
  for (const name of ['new-young', 'new-old']) await mkdir(join(dir, name))
  await utimes(join(dir, 'new-old'), 1, 1)
  assert.equal(await sweepRuns(dir, async () => {}), 1)
  assert.deepEqual(await readdir(dir), ['new-young'])
})

test('a program cannot keep its folder, or any later run, by what it makes there: no rights, depth without end, links', async (t) => {
  const dir = await folder(t)
  const outside = await folder(t)
  await writeFile(join(outside, 'kept'), '')
  const away = process.cwd()
  for (const swept of [false, true]) {
    const place = await makePlace({ folder: dir, inMemory: true })
    await mkdir(join(place.folder, 'closed', 'inside'), { recursive: true })
    await symlink(outside, join(place.folder, 'closed', 'link'))
    await chmod(join(place.folder, 'closed'), 0)
    try {
      process.chdir(place.folder)
      // Longer in all than the kernel takes a path to be (PATH_MAX).
      for (let i = 0; i < 30; i++) {
        mkdirSync('d'.repeat(200))
        process.chdir('d'.repeat(200))
      }
    } finally {
      process.chdir(away)
    }
    if (!swept) await place.remove()
    else {
      await writeFile(join(place.folder, 'owner.json'), JSON.stringify({ pid: process.pid, began: '1' }))
      assert.equal(await sweepRuns(dir, async () => {}, assert.fail), 1)
    }
    assert.deepEqual(await readdir(dir), [])
  }
  assert.deepEqual(await readdir(outside), ['kept'])
})
