import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, link, mkdir, mkdtemp, open, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { type SecretSpec, secretSpec } from '../catalog/secret.ts'
import { type Clock, manualClock, systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { openReferences } from './references.ts'

async function world(t: TestContext, env: Record<string, string> = {}, clock: Clock = systemClock) {
  const dir = await mkdtemp(join(tmpdir(), 'references-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const documents = new Map<string, SecretSpec>()
  const data = join(dir, 'data')
  await mkdir(data)
  const seen: string[] = []
  const references = openReferences({
    specOf: (name) => documents.get(name),
    kept: [data, join(dir, 'root-key')],
    env,
    clock,
    see: (value) => void seen.push(value),
  })
  return {
    dir,
    data,
    seen,
    references,
    set: (name: string, spec: unknown) => void documents.set(name, secretSpec.parse(spec)),
    old: (name: string, spec: SecretSpec) => void documents.set(name, spec),
    remove: (name: string) => void documents.delete(name),
    async file(name: string, text: string, mode = 0o600) {
      const path = join(dir, name)
      await writeFile(path, text)
      await chmod(path, mode)
      return path
    },
  }
}

const refused = (text: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === 'upstream_unavailable' && text.test(error.message) && !error.message.includes('hunter2')

test('a secret is taken from a file, a variable or a command, and masked before anybody has it', async (t) => {
  const { references, set, file, seen } = await world(t, { CRM_TOKEN: 'from-env-hunter2' })
  set('a', { from: { file: await file('token', 'from-file-hunter2\n') } })
  set('b', { from: { env: 'CRM_TOKEN' } })
  set('c', { from: { command: ['/bin/sh', '-c', 'printf %s-hunter2 from'] } })
  assert.equal(await references.reveal('a'), 'from-file-hunter2')
  assert.equal(await references.reveal('b'), 'from-env-hunter2')
  assert.match(await references.reveal('c'), /hunter2/)
  assert.equal(seen.length, 3)
})

test('rule 5: a command gets nothing of the environment of the server, and no shell reads its arguments', async (t) => {
  const { references, set } = await world(t, { CRM_TOKEN: 'hunter2' })
  set('env', { from: { command: ['/usr/bin/env'] } })
  assert.deepEqual(
    (await references.reveal('env'))
      .split('\n')
      .map((one) => one.split('=')[0])
      .sort(),
    ['LANG', 'PATH'],
  )
  set('text', { from: { command: ['/bin/echo', '$(id)', ';', '`id`'] } })
  assert.equal(await references.reveal('text'), '$(id) ; `id`')
})

test('a program that somebody else can write is not run: it would run as Chaperone', async (t) => {
  const { references, set, file, dir } = await world(t)
  const program = await file('tool', '#!/bin/sh\necho from-hunter2 > "$0.ran"\necho hunter2\n', 0o777)
  await symlink(program, join(dir, 'link'))
  for (const path of [program, join(dir, 'link')]) {
    set('loose', { from: { command: [path] } })
    await assert.rejects(references.reveal('loose'), refused(/somebody else can write that program/))
  }
  await assert.rejects(open(`${program}.ran`), { code: 'ENOENT' })
  await chmod(program, 0o755)
  assert.equal(await references.reveal('loose'), 'hunter2')
})

test('rule 11: a command has a time, its output a size, and its failure says nothing of what it wrote', async (t) => {
  const clock = manualClock(1_000_000)
  const { references, set, dir } = await world(t, {}, clock)
  const started = join(dir, 'started')
  set('slow', { from: { command: ['/bin/sh', '-c', `sleep 600 & echo > ${started}; wait`] } })
  const slow = assert.rejects(references.reveal('slow'), refused(/does not end/))
  while (!existsSync(started)) await setImmediate()
  clock.advance(10_001)
  await slow
  set('large', { from: { command: ['/bin/sh', '-c', 'yes hunter2'] } })
  await assert.rejects(references.reveal('large'), refused(/more than 64 KiB/))
  set('fails', { from: { command: ['/bin/sh', '-c', 'echo hunter2; echo hunter2 >&2; exit 3'] } })
  await assert.rejects(references.reveal('fails'), refused(/status 3/))
  set('none', { from: { command: ['/nowhere/at/all'] } })
  await assert.rejects(references.reveal('none'), refused(/cannot be started/))
})

test("rule 5: none of Chaperone's own files is a secret of an upstream, by whatever path", async (t) => {
  const { references, set, file, data, dir } = await world(t)
  const root = await file('root-key', 'hunter2')
  const inside = join(data, 'chaperone.db')
  await writeFile(inside, 'hunter2', { mode: 0o600 })
  await symlink(inside, join(dir, 'soft'))
  await link(root, join(dir, 'hard'))
  await link(inside, join(dir, 'hard-of-one-inside'))
  const around = [`/proc/self/root${inside}`, `/proc/${process.pid}/root${root}`, `/proc/self/cwd/${relative(process.cwd(), inside)}`]
  const handle = await open(inside)
  t.after(() => handle.close())
  if (process.platform === 'linux') around.push(`/proc/self/fd/${handle.fd}`, `/dev/fd/${handle.fd}`)
  else around.length = 0
  for (const path of [
    ...around,
    root,
    inside,
    join(dir, 'soft'),
    join(dir, 'hard'),
    join(dir, 'hard-of-one-inside'),
    `${dir}/x/../root-key`.replace('/x/..', '/data/..'),
  ]) {
    set('own', { from: { file: path } })
    await assert.rejects(references.reveal('own'), refused(/own files/), path)
  }
  for (const path of ['/proc/self/environ', '/dev/zero', dir]) {
    set('odd', { from: { file: path } })
    await assert.rejects(references.reveal('odd'), refused(/no ordinary file/), path)
  }
})

test("rule 5: a variable of Chaperone's own is no secret of an upstream: not in a new document, and not in an old one", async (t) => {
  const names = [
    'CHAPERONE_ROOT_PASSPHRASE',
    'chaperone_join',
    'NODE_OPTIONS',
    'npm_config__authToken',
    'PGPASSWORD',
    'AWS_SECRET_ACCESS_KEY',
    'https_proxy',
    'ALL_PROXY',
  ]
  const { references, old } = await world(t, Object.fromEntries(names.map((name) => [name, 'hunter2'])))
  for (const env of names) {
    const { error } = secretSpec.safeParse({ from: { env } })
    assert.match(JSON.stringify(error?.issues), /Chaperone's own: set the value under another name/, env)
    old('old', { from: { env }, refresh: '5m' })
    await assert.rejects(references.reveal('old'), refused(/one of Chaperone's own/), env)
  }
  for (const env of ['CRM_TOKEN', 'NODEJS', 'MY_PROXY_TOKEN', 'PROXY_KEY']) assert.ok(secretSpec.safeParse({ from: { env } }).success, env)
})

test('a file that others can write, or everybody can read, is refused; one of a group is not', async (t) => {
  const { references, set, file } = await world(t)
  for (const mode of [0o644, 0o604, 0o620, 0o602]) {
    set('loose', { from: { file: await file(`f${mode}`, 'hunter2', mode) } })
    await assert.rejects(references.reveal('loose'), refused(/others can write it, or everybody can read it/), mode.toString(8))
  }
  set('ok', { from: { file: await file('group', 'hunter2', 0o440) } })
  assert.equal(await references.reveal('ok'), 'hunter2')
})

test('what is empty, too large, no text or holds a NUL is no secret', async (t) => {
  const { references, set, file } = await world(t)
  for (const [name, text] of [
    ['empty', '\n'],
    ['nul', 'a\0b'],
    ['large', 'x'.repeat(65 * 1024)],
  ] as const) {
    set('odd', { from: { file: await file(name, text) } })
    await assert.rejects(references.reveal('odd'), refused(/empty|NUL|64 KiB/), name)
  }
})

test('a value is used for as long as its document says; one that cannot be read any more is not used', async (t) => {
  const clock = manualClock(1_000_000)
  const { references, set, file, remove } = await world(t, {}, clock)
  const path = await file('token', 'one')
  set('a', { from: { file: path }, refresh: '60s' })
  assert.equal(await references.reveal('a'), 'one')
  await writeFile(path, 'two')
  clock.advance(59_999)
  assert.equal(await references.reveal('a'), 'one')
  clock.advance(2)
  assert.equal(await references.reveal('a'), 'two')
  await rm(path)
  clock.advance(60_001)
  await assert.rejects(references.reveal('a'), refused(/there is none/))
  remove('a')
  assert.equal(references.has('a'), false)
  await assert.rejects(references.reveal('a'), refused(/deleted/))
})

test('rule 5: what is judged is the file that was opened, also when its path leads elsewhere a moment later', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const { references, set, file } = await world(t)
  const path = await file('kept-by-somebody', 'hunter2')
  const handle = await open(path)
  t.after(() => handle.close())
  await rm(path)
  await file('kept-by-somebody (deleted)', 'harmless')
  set('turned', { from: { file: `/proc/self/fd/${handle.fd}` } })
  await assert.rejects(references.reveal('turned'), refused(/changed while it was read/))
})
