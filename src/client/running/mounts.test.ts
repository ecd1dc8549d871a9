import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { probeAbility } from './isolation.ts'
import { elsewhereOf, readMounts } from './mounts.ts'

const MOUNTS = readMounts(`20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:2 / /home rw - ext4 /dev/sdb1 rw
22 20 8:2 / /mnt/all\\040homes rw - ext4 /dev/sdb1 rw
23 20 8:2 /dana /srv/dana rw - ext4 /dev/sdb1 rw
24 20 8:2 /dana/.config/chaperone/keys /mnt/keys rw - ext4 /dev/sdb1 rw
25 20 8:2 /boris /srv/boris rw - ext4 /dev/sdb1 rw
26 20 8:1 /home/dana /srv/under rw - ext4 /dev/sda1 rw
`)

test('a folder is found wherever its file system is mounted again: above it, at it, and below it', () => {
  const folder = '/home/dana/.config/chaperone'
  const others = ['/mnt/all homes/dana/.config/chaperone', '/srv/dana/.config/chaperone', '/mnt/keys']
  assert.deepEqual(elsewhereOf(folder, MOUNTS), others)
  assert.deepEqual(elsewhereOf(others[1]!, MOUNTS), [folder, others[0], others[2]])
  assert.deepEqual(elsewhereOf('/etc/chaperone', MOUNTS), [])
})

const { bwrap, why } = await probeAbility()
/** In a mount namespace of its own: a bind mount as an administrator makes one. */
const SCRIPT = `
import { bwrapArguments } from ${JSON.stringify(new URL('./bwrap.ts', import.meta.url).href)}
import { spawnSync } from 'node:child_process'
const [bwrap, home, runs, ...files] = process.argv.slice(1)
const { options } = bwrapArguments({ network: 'open', program: '/bin/cat', args: [], env: {}, cwd: '/', home, runs, own: { read: [], write: [], memory: [] }, hide: [home + '/keys'], read: [], write: [], newSession: true })
const { stdout, stderr } = spawnSync(bwrap, [...options, '--', '/bin/cat', ...files], { encoding: 'utf8' })
console.log(stdout + stderr)
`

test('rule 5: what is covered in a home is covered at its second mount, too, also with the network of the machine', {
  skip: bwrap === undefined ? why : process.getuid?.() === 0 ? false : 'only root can mount',
}, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-mounts-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  for (const name of ['home/keys/deep', 'home/project', 'again', 'deep', 'runs']) await mkdir(join(dir, name), { recursive: true })
  for (const name of ['home/keys/key', 'home/keys/deep/key', 'home/project/note', 'one']) await writeFile(join(dir, name), `text of ${name}`)
  const mounts = [
    ['home', 'again'],
    ['home/keys/deep', 'deep'],
    ['home/keys/key', 'one'],
  ].map(([from, to]) => `mount --bind ${dir}/${from} ${dir}/${to}`)
  const files = ['home/keys/key', 'again/keys/key', 'again/keys/deep/key', 'deep/key', 'one', 'again/project/note'].map((name) => join(dir, name))
  const run = ['-m', 'sh', '-ec', `${mounts.join('\n')}\nexec "$@"`, 'sh', process.execPath, '--input-type=module', '-e', SCRIPT]
  const { stdout, stderr, status } = spawnSync('unshare', [...run, bwrap!, join(dir, 'home'), join(dir, 'runs'), ...files], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.match(stdout, /text of home\/project\/note/)
  assert.doesNotMatch(stdout, /text of home\/keys/)
})
