import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ChaperoneError } from '../../errors.ts'
import { type BwrapAsk, bwrapArguments } from './bwrap.ts'
import { probeAbility } from './isolation.ts'

async function ask(t: { after(work: () => Promise<void>): void }, more: Partial<BwrapAsk> = {}): Promise<BwrapAsk> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-fence-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  for (const name of ['home/project/own', 'home/.ssh', 'home/secret', 'home/keys', 'runs/own']) await mkdir(join(dir, name), { recursive: true })
  await writeFile(join(dir, 'home', 'keys', 'identity.json'), '{}')
  return {
    network: 'chaperone',
    program: '/usr/bin/true',
    args: ['x'],
    env: { TOKEN: 'of the program' },
    cwd: join(dir, 'home', 'project'),
    home: join(dir, 'home'),
    runs: join(dir, 'runs'),
    own: { read: [join(dir, 'runs', 'own')], write: [], memory: [] },
    hide: [join(dir, 'home', 'secret'), join(dir, 'home', 'keys', 'identity.json'), join(dir, 'home', 'not-there', 'x')],
    read: [],
    write: [],
    newSession: true,
    ...more,
  }
}

test('a program that may reach Chaperone only has no network and sees nothing of the home but where it works', async (t) => {
  const given = await ask(t)
  const { options, command } = bwrapArguments(given)
  assert.ok(options.includes('--unshare-all') && !options.includes('--share-net'))
  const bound = options.flatMap((word, i) => (/bind$/.test(options[i - 1] ?? '') ? [word] : []))
  assert.ok(bound.includes(given.cwd))
  assert.ok(!bound.some((path) => path === given.home || path === '/' || path === '/home' || path === '/etc' || path.endsWith('.ssh')))
  assert.deepEqual(command, ['/usr/bin/true', 'x'])
})

test('a script sees what runs it, where its first line and the PATH say, with the modules that belong to that', async (t) => {
  const { home, ...rest } = await ask(t)
  const [bin, modules] = [join(home, 'node', 'bin'), join(home, 'node', 'lib', 'node_modules')]
  for (const folder of [bin, modules]) await mkdir(folder, { recursive: true })
  await writeFile(join(bin, 'own-node'), '')
  const scripts = { env: '#!/usr/bin/env own-node', split: '#!/usr/bin/env -S own-node --flag', whole: `#!${join(bin, 'own-node')}` }
  const path = process.env.PATH
  process.env.PATH = `${bin}:${path}`
  t.after(() => {
    process.env.PATH = path
  })
  for (const [name, first] of Object.entries(scripts)) {
    await writeFile(join(bin, name), `${first}\n`)
    const { options } = bwrapArguments({ ...rest, home, program: join(bin, name) })
    const shown = options.flatMap((word, i) => (options[i - 1] === '--ro-bind' ? [word] : []))
    for (const needed of [join(bin, name), join(bin, 'own-node'), modules]) assert.ok(shown.includes(needed), `${name}: ${needed}`)
    assert.ok(!shown.includes(home) && !shown.includes(bin))
  }
  await writeFile(join(bin, 'plain'), '#!/bin/sh\n')
  assert.ok(
    !bwrapArguments({ ...rest, home, program: join(bin, 'plain') }).options.includes('/bin/sh'),
    'what every program sees is not bound once more',
  )
})

test('a link to a program stays a link, as npm makes them: a script finds its own modules beside what it is, not beside its name', async (t) => {
  const { home, ...rest } = await ask(t)
  const [bin, module] = [join(home, 'bin'), join(home, 'lib', 'node_modules', 'tool')]
  for (const folder of [bin, module]) await mkdir(folder, { recursive: true })
  await writeFile(join(module, 'cli.js'), '#!/bin/sh\n')
  await symlink('../lib/node_modules/tool/cli.js', join(bin, 'tool'))
  const { options } = bwrapArguments({ ...rest, home, program: join(bin, 'tool') })
  const at = options.indexOf('--symlink')
  assert.deepEqual(options.slice(at, at + 3), ['--symlink', join(module, 'cli.js'), join(bin, 'tool')])
  assert.ok(!options.some((word, i) => word === '--ro-bind' && options[i + 1] === join(bin, 'tool')))
  const inside = bwrapArguments({ ...rest, home, program: join(bin, 'tool'), read: [bin] }).options
  assert.ok(!inside.includes('--symlink'), 'it is there with its folder')
})

test('a program of the system starts by whatever name it has, also by that of a link in a folder that is a link', {
  skip: (await probeAbility()).bwrap === undefined && 'no bubblewrap',
}, async (t) => {
  const { bwrap = '' } = await probeAbility()
  for (const program of ['/bin/sh', '/usr/bin/sh']) {
    const { options, command } = bwrapArguments({ ...(await ask(t)), program, args: ['-c', 'echo started'] })
    assert.equal(spawnSync(bwrap, [...options, '--', ...command], { encoding: 'utf8' }).stdout, 'started\n', program)
  }
})

test('a home folder, or what holds one, is not given to a program that must not see its keys', async (t) => {
  const { home, ...rest } = await ask(t)
  for (const wide of [home, join(home, '..'), '/']) {
    assert.throws(() => bwrapArguments({ ...rest, home, cwd: wide }), { code: 'isolation_unavailable' })
    assert.throws(() => bwrapArguments({ ...rest, home, write: [wide] }), { code: 'isolation_unavailable' })
  }
})

test('Chaperone’s own files and those of other runs are covered: of a file its folder, because a file is replaced when it is renewed', async (t) => {
  for (const network of ['chaperone', 'open'] as const) {
    const given = await ask(t, { network })
    const { options } = bwrapArguments(given)
    const at = (...words: readonly string[]) => options.findIndex((_, i) => words.every((word, j) => options[i + j] === word))
    // Where nothing is shown but what is needed, they are not there to begin with.
    for (const folder of ['secret', 'keys']) assert.equal(at('--tmpfs', join(given.home, folder)) > 0, network === 'open', folder)
    // Covered first, then its own is put back.
    assert.ok(at('--tmpfs', given.runs) > 0 && at('--tmpfs', given.runs) < at('--ro-bind', given.own.read[0]!, given.own.read[0]!))
    assert.equal(at(join(given.home, 'not-there')), -1)
    assert.equal(at('--clearenv', '--setenv', 'TOKEN', 'of the program') > 0, true)
  }
})

test('rule 5: what cannot be kept from a program is refused before it starts, with where to put it', async (t) => {
  const given = await ask(t)
  const cases: readonly Partial<BwrapAsk>[] = [
    { hide: [join(given.cwd, 'machine.key')] },
    { hide: [join(given.cwd, 'profiles')] },
    // It could be covered; but the program may move what is around it away, and what is made anew there it would see.
    { hide: [join(given.cwd, 'own')] },
    { write: [join(given.home, 'secret')] },
    { read: [join(given.home, 'keys', 'identity.json')] },
    { read: [join(given.home, 'secret')] },
    { network: 'open', hide: [join(given.cwd, 'machine.key')] },
    { network: 'open', hide: [join(given.home, 'machine.key')] },
    { network: 'open', hide: ['/etc/machine.key'] },
    { network: 'open', hide: [given.cwd] },
  ]
  for (const more of cases)
    assert.throws(
      () => bwrapArguments({ ...given, ...more }),
      (error: ChaperoneError) => error.code === 'isolation_unavailable' && /could read/.test(error.message) && /mkdir/.test(error.fix ?? ''),
      JSON.stringify(more),
    )
})
