import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { assertEditable, backupsOf, editClientFile, readClientFile } from './file.ts'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'client-file-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

test('a change keeps the mode and leaves what was there beside it, for its owner alone; no change leaves nothing', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, 'one')
  await chmod(file, 0o640)
  const { backup, changed } = await editClientFile(file, () => 'two')
  assert.ok(changed)
  assert.equal(await readFile(backup!, 'utf8'), 'one')
  assert.equal((await stat(file)).mode & 0o777, 0o640)
  assert.equal((await stat(backup!)).mode & 0o777, 0o600)
  assert.deepEqual(await editClientFile(file, () => 'two'), { file, changed: false })
  assert.equal((await backupsOf(file)).length, 1)
})

test('a new file is for its owner alone, and its folder is made', async (t) => {
  const file = join(await folder(t), 'a', 'b', 'mcp.json')
  assert.equal((await editClientFile(file, () => 'x')).backup, undefined)
  assert.equal((await stat(file)).mode & 0o777, 0o600)
})

test('a file that its owner made read-only is not written over, though a rename could', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, 'one')
  await chmod(file, 0o444)
  await assert.rejects(
    editClientFile(file, () => 'two'),
    { code: 'unsupported', message: /is read-only/, fix: /chmod u\+w/ },
  )
  await assert.rejects(assertEditable(file), { code: 'unsupported' })
  assert.equal(await readFile(file, 'utf8'), 'one')
  assert.equal((await readClientFile(file)).text, 'one')
})

test('a link into another folder stays a link', async (t) => {
  const dir = await folder(t)
  await mkdir(join(dir, 'dotfiles'))
  await writeFile(join(dir, 'dotfiles', 'mcp.json'), 'one')
  await symlink(join(dir, 'dotfiles', 'mcp.json'), join(dir, 'mcp.json'))
  const { file, backup } = await editClientFile(join(dir, 'mcp.json'), () => 'two')
  assert.equal(file, join(dir, 'dotfiles', 'mcp.json'))
  assert.ok(backup!.startsWith(file))
  assert.deepEqual((await readdir(dir)).sort(), ['dotfiles', 'mcp.json'])
})

test('what must not be written is left alone: a link that leads nowhere, a folder, a link out of a project', async (t) => {
  const dir = await folder(t)
  await symlink(join(dir, 'nowhere'), join(dir, 'loose.json'))
  await assert.rejects(
    editClientFile(join(dir, 'loose.json'), () => 'x'),
    /leads nowhere/,
  )
  await assert.rejects(
    editClientFile(dir, () => 'x'),
    /not a plain file/,
  )
  await mkdir(join(dir, 'project'))
  await writeFile(join(dir, 'outside.json'), '{}')
  await symlink(join(dir, 'outside.json'), join(dir, 'project', '.mcp.json'))
  await assert.rejects(
    editClientFile(join(dir, 'project', '.mcp.json'), () => 'x', { project: join(dir, 'project') }),
    /leads out of its project/,
  )
  assert.equal(await readFile(join(dir, 'outside.json'), 'utf8'), '{}')
})

test('a file that its client writes meanwhile is read again, and both changes are in it', async (t) => {
  const file = join(await folder(t), '.claude.json')
  await writeFile(file, 'a')
  let first = true
  const work = editClientFile(file, (text) => {
    // What the client does between our look and our write; synchronous, so that it lies between them for sure.
    if (first) process.getBuiltinModule('node:fs').writeFileSync(file, `${text}b`)
    first = false
    return `${text}!`
  })
  await work
  assert.equal(await readFile(file, 'utf8'), 'ab!')
  assert.equal((await backupsOf(file)).length, 1)
})

test('the first copy stays, and of the others the newest', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, '0')
  for (let i = 1; i <= 8; i++) await editClientFile(file, () => String(i), { clock: { now: () => i * 1000 } as never })
  const texts = await Promise.all((await backupsOf(file)).map((one) => readFile(one, 'utf8')))
  assert.deepEqual(texts, ['0', '4', '5', '6', '7'])
})
