import assert from 'node:assert/strict'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { ensureKeyFile } from '../../src/client/joining/bound-key.ts'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const skip = ability.bwrap === undefined && ability.why
const ROOT = process.getuid?.() === 0
const rig = rigOfFile()

/** What a program inside does to come by what is kept from it; `SECRET` would be in what it says. */
const TRIES = (folder: string, file: string) =>
  [
    `cat ${file}`,
    `umount ${folder} && cat ${file}`,
    `umount -l ${folder}; cat ${file}`,
    `unshare -Urm sh -c 'umount ${folder}; cat ${file}'`,
    `unshare -Urm sh -c 'mkdir -p $TMPDIR/m; mount --rbind / $TMPDIR/m; cat $TMPDIR/m${file}'`,
    `cat /proc/1/root${file}`,
    `cat /proc/1/environ`,
    `nsenter -t 1 -m cat ${file}`,
    `for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; cat $p/root${file}; done`,
    // Opened to be written to, and nothing is: these are the whole machine's.
    `(: >>/proc/sys/kernel/core_pattern) && echo SECRET core_pattern`,
    `(: >>/proc/sysrq-trigger) && echo SECRET sysrq`,
    `mknod $TMPDIR/disk b 8 0 && echo SECRET disk`,
  ].join('\n')

for (const network of ['chaperone', 'open'] as const) {
  test(`rule 5: with --network ${network} a program that tries, ${ROOT ? 'as root' : 'as an ordinary user'}, comes by no key, no credential and no environment of who started it`, {
    skip,
  }, async (t) => {
    const home = join(rig.dir, 'nobody')
    await mkdir(home, { recursive: true })
    const file = join(home, 'key.json')
    await writeFile(file, 'SECRET of the profile', { mode: 0o600 })
    const args = ['agent', 'run', '--as', 'first', '--network', network, '--join', await rig.token('first')]
    const run = start(t, [...args, '--', 'sh', '-c', `exec 2>&1\n${TRIES(home, file)}\necho tried`], {
      home,
      cwd: rig.work,
      env: { OF_THE_PARENT: 'SECRET of the environment' },
    })
    assert.equal(await run.ended, 0, run.err())
    assert.match(run.out(), /tried/)
    assert.doesNotMatch(run.out(), /SECRET/)
  })
}

test('rule 5: who signs in, or is renewed, while the program goes on is not seen by it: not in a file that takes the place of another, nor in a folder that was not there', {
  skip,
}, async (t) => {
  const there = join(rig.dir, 'keys')
  const machine = join(there, 'machine.json')
  await ensureKeyFile(machine, 'machine')
  const home = join(rig.dir, 'not-yet')
  const args = ['agent', 'run', '--as', 'first', '--network', 'open', '--key-file', machine, '--join', await rig.token('first')]
  const script = `echo ready; until test -e signed-in; do sleep 0.05; done; cat ${machine} ${home}/* 2>&1; echo tried`
  const run = start(t, [...args, '--', 'sh', '-c', script], { home, cwd: rig.work })
  await run.says(/ready/)
  await writeFile(`${machine}.new`, 'SECRET of the machine', { mode: 0o600 })
  await rename(`${machine}.new`, machine)
  await writeFile(join(home, 'profile.json'), 'SECRET of the profile', { mode: 0o600 })
  await writeFile(join(rig.work, 'signed-in'), '')
  assert.equal(await run.ended, 0, run.err())
  assert.match(run.out(), /tried/)
  assert.doesNotMatch(run.out(), /SECRET|BEGIN/)
})

test('rule 2: with --network chaperone neither a socket without a name nor one in the file system of somebody else is there', { skip }, async (t) => {
  const name = `chaperone-test-${process.pid}`
  const path = join(rig.dir, 'agent.sock')
  for (const at of [`\0${name}`, path]) {
    const server = createServer((socket) => socket.end('SECRET')).listen(at)
    await new Promise((done) => server.once('listening', done))
    t.after(() => server.close())
  }
  const script = `for (const at of ['\\0${name}', '${path}']) require('net').connect(at).on('data', (d) => console.log(String(d))).on('error', (e) => console.log(e.code))`
  const args = ['agent', 'run', '--as', 'first', '--network', 'chaperone', '--join', await rig.token('first'), '--', 'node', '-e', script]
  const run = start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work, env: { SSH_AUTH_SOCK: path } })
  assert.equal(await run.ended, 0, run.err())
  assert.deepEqual(run.out().trim().split('\n').sort(), ['ECONNREFUSED', 'ENOENT'])
})

test('rule 5: a key by which the machine joins, in the folder that the program works in, is refused with where to put it', { skip }, async (t) => {
  const args = [
    'agent',
    'run',
    '--as',
    'machine',
    '--method',
    'bound-key',
    '--key-file',
    'machine.json',
    '--join',
    'chaperone://127.0.0.1:1?ca=0&for=x',
  ]
  const run = start(t, [...args, '--', 'true'], { home: join(rig.dir, 'nobody'), cwd: rig.work })
  assert.equal(await run.ended, 8)
  assert.match(run.err(), /could read machine\.json[\s\S]*mkdir/)
})
