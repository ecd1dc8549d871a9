import assert from 'node:assert/strict'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const skip = ability.bwrap === undefined ? ability.why : !ability.sized && 'this bubblewrap knows no sizes'
const rig = rigOfFile()

const run = async (t: Parameters<typeof start>[0], flags: readonly string[], script: string, env: NodeJS.ProcessEnv = {}) => {
  const args = ['agent', 'run', '--as', 'first', ...flags, '--join', await rig.token('first'), '--', 'sh', '-c', script]
  return start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work, env })
}

/** Fills a folder with more than it may hold, a little at a time and not without end. */
const FILL = `fill() { i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero >"$1/fill-$i" || { rm -f "$1"/fill-*; return; }; i=$((i+1)); done; rm -f "$1"/fill-*; echo "NO END $1"; }`

test('rule 11: whatever a fenced program writes to memory has an end: it is told that the place is full, and the machine does not notice', {
  skip,
}, async (t) => {
  const one = await run(
    t,
    ['--network', 'chaperone', '--tmp-size', '1MiB'],
    [
      'exec 2>&1',
      FILL,
      'for folder in /tmp /dev/shm "$HOME" "$(dirname "$CHAPERONE_SVID_DIR")/tmp"; do fill "$folder"; done',
      'for folder in / /dev /home "$(dirname "$CHAPERONE_MCP_CONFIG")" "$(dirname "$CHAPERONE_SVID_DIR")" "$CHAPERONE_SVID_DIR"; do echo x >"$folder/x"; done',
      'echo x >/dev/null && echo fine',
      // Whatever else there is: each file system in memory has a size, or is not written to.
      'sed "s/^/mount: /" /proc/self/mountinfo',
    ].join('\n'),
  )
  assert.equal(await one.ended, 0, one.err())
  const out = one.out()
  assert.doesNotMatch(out, /NO END/)
  assert.equal(out.match(/No space left/g)?.length, 4, out)
  assert.match(out, /^fine$/m)
  const mounts = [...out.matchAll(/^mount: \S+ \S+ \S+ \S+ (\S+) (\S+) .*- tmpfs \S+ (\S+)$/gm)].map(([, point = '', own = '', all = '']) => ({
    point,
    bounded: /^ro\b/.test(own) || /\bsize=(?:1024|256)k\b/.test(all),
  }))
  assert.ok(mounts.length > 4, out)
  // The folder that it works in is the person's own, wherever that lies.
  assert.deepEqual(
    mounts.filter(({ point, bounded }) => !bounded && point !== rig.work && !/^\/dev\/(?:null|zero|full|random|urandom|tty)$/.test(point)),
    [],
  )
})

test('with the network of the machine its home and TMPDIR have the same end, and nothing of them is seen outside', { skip }, async (t) => {
  const script = `exec 2>&1; ${FILL}; echo x >"$HOME/x"; echo x >"$TMPDIR/x"; echo "$HOME"; echo ready; read -r _ <go; for folder in "$HOME" "$TMPDIR"; do fill "$folder"; done`
  const one = await run(t, ['--network', 'open', '--tmp-size', '1MiB'], `mkfifo go; ${script}`)
  const [, home = ''] = await one.says(/^(\/.*)\nready$/m)
  const { readdir, writeFile } = await import('node:fs/promises')
  assert.deepEqual(await readdir(home), [])
  assert.deepEqual(await readdir(join(dirname(home), 'tmp')), [])
  await writeFile(join(rig.work, 'go'), 'on\n')
  assert.equal(await one.ended, 0, one.err())
  assert.equal(one.out().match(/No space left/g)?.length, 2, one.out())
})

for (const flags of [...(ability.bwrap === undefined ? [] : [[]]), ['--isolation', 'none']])
  test(`rule 5: ${flags.length === 0 ? 'in bubblewrap' : 'without isolation'} no core file of a program is written, which would hold its credential`, {
    skip: ability.prlimit === undefined && 'prlimit is not installed',
  }, async (t) => {
    const one = await run(t, flags, 'grep -E "core file|processes" /proc/self/limits; kill -SEGV $$')
    assert.equal(await one.ended, 139, one.err())
    assert.match(one.out(), /Max core file size +1 +1 /)
    if (flags.length === 0) assert.match(one.out(), /Max processes +\d{1,4} /)
  })

test('a size that cannot be kept to is refused before a token is spent, and one that is none is wrong usage', async (t) => {
  const none = await run(t, ['--isolation', 'none', '--tmp-size', '1MiB'], 'true')
  assert.equal(await none.ended, 8)
  assert.match(none.err(), /--tmp-size/)
  const odd = await run(t, ['--tmp-size', '1m'], 'true')
  assert.equal(await odd.ended, 2)
  assert.match(odd.err(), /512MiB/)
})
