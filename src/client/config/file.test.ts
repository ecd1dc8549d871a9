import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import promises, { chmod, chown, link, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
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
  assert.deepEqual(await editClientFile(file, () => 'two'), { file, changed: false, notes: [] })
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

test('extended attributes stay, and an access list with them; the text is the new one alone', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, 'a longer text than what comes after it')
  const python = (code: string) => spawnSync('python3', ['-c', `import os,sys; f=sys.argv[1]\n${code}`, file], { encoding: 'utf8' })
  if (python("os.setxattr(f, 'user.chaperone', b'mine')").status !== 0) return t.skip('nothing here sets an extended attribute')
  const { notes } = await editClientFile(file, () => 'two')
  assert.deepEqual(notes, [])
  assert.equal(await readFile(file, 'utf8'), 'two')
  assert.equal(python("print(os.getxattr(f, 'user.chaperone').decode())").stdout, 'mine\n')
})

test('a file with a second name is told of: that one still holds what was there', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'mcp.json'), 'one')
  await link(join(dir, 'mcp.json'), join(dir, 'other.json'))
  const { notes } = await editClientFile(join(dir, 'mcp.json'), () => 'two')
  assert.match(notes.join(), /mcp\.json had 1 more name \(hard links\)/)
  assert.equal(await readFile(join(dir, 'other.json'), 'utf8'), 'one')
  assert.deepEqual((await editClientFile(join(dir, 'mcp.json'), () => 'three')).notes, [])
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

test('what its client writes while we write is not written over', async (t) => {
  const file = join(await folder(t), '.claude.json')
  await writeFile(file, 'a')
  const { open } = promises
  let tries = 0
  // Another program, when all was looked at and the new text is on its way to the disk.
  t.mock.method(promises, 'open', async (...given: Parameters<typeof open>) => {
    if (String(given[0]).endsWith('.tmp') && tries++ === 0) writeFileSync(file, 'ab')
    return open(...given)
  })
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  await editClientFile(file, (text) => `${text}!`)
  assert.equal(tries, 2)
  assert.equal(await readFile(file, 'utf8'), 'ab!')
  assert.deepEqual(
    (await readdir(dirname(file))).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

test('a mode that the umask would narrow is kept, and so is the group', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, 'one')
  await chmod(file, 0o664)
  const others = process.getgroups!().find((group) => group !== process.getgid!())
  const group = process.getuid!() === 0 ? 12_345 : others
  if (group !== undefined) await chown(file, process.getuid!(), group)
  await editClientFile(file, () => 'two')
  const { mode, gid } = await stat(file)
  assert.equal(mode & 0o777, 0o664)
  if (group !== undefined) assert.equal(gid, group)
})

test('a byte order mark stays; what is not UTF-8 is not touched, for its letters would be lost', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, '\uFEFF{}')
  await editClientFile(file, (text) => text.replace('{}', '[]'))
  assert.equal(await readFile(file, 'utf8'), '\uFEFF[]')
  const latin = Buffer.from('{ "n": "J\xfcrgen" }', 'latin1')
  await writeFile(file, latin)
  await assert.rejects(
    editClientFile(file, (text) => `${text} `),
    { code: 'unsupported', message: /is not UTF-8, so it is not touched/ },
  )
  assert.deepEqual(await readFile(file), latin)
})

test('a folder of a project that is a link out of it gets no new file', async (t) => {
  const dir = await folder(t)
  await mkdir(join(dir, 'project', 'own'), { recursive: true })
  await mkdir(join(dir, 'elsewhere'))
  const project = join(dir, 'project')
  await symlink(join(dir, 'elsewhere'), join(project, '.cursor'))
  await assert.rejects(
    editClientFile(join(project, '.cursor', 'mcp.json'), () => 'x', { project }),
    /leads out of its project/,
  )
  assert.deepEqual(await readdir(join(dir, 'elsewhere')), [])
  assert.equal((await editClientFile(join(project, '.vscode', 'mcp.json'), () => 'x', { project })).changed, true)
  await symlink(join(project, 'own'), join(project, '.zed'))
  assert.equal((await editClientFile(join(project, '.zed', 'settings.json'), () => 'x', { project })).changed, true)
})

test('the first copy stays, and of the others the newest', async (t) => {
  const file = join(await folder(t), 'mcp.json')
  await writeFile(file, '0')
  for (let i = 1; i <= 8; i++) await editClientFile(file, () => String(i), { clock: { now: () => i * 1000 } as never })
  const texts = await Promise.all((await backupsOf(file)).map((one) => readFile(one, 'utf8')))
  assert.deepEqual(texts, ['0', '4', '5', '6', '7'])
})
