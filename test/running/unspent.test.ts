import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const rig = rigOfFile()

test('what is wrong with a run is found before its token is spent: it works as before when that is mended', async (t) => {
  const token = await rig.token('first')
  // In memory, as runs want it, and open to others.
  const shm = await mkdtemp('/dev/shm/chaperone-test-').catch(() => undefined)
  if (shm) {
    t.after(() => rm(shm, { recursive: true, force: true, maxRetries: 10 }))
    await mkdir(join(shm, 'chaperone-run'))
    // Whatever the umask is.
    await chmod(join(shm, 'chaperone-run'), 0o755)
  }
  await writeFile(join(rig.work, 'text'), 'no program')
  const plain = ['--isolation', 'none']
  const cases: readonly (readonly [args: readonly string[], program: string, says: RegExp, env?: NodeJS.ProcessEnv])[] = [
    [plain, 'no-such-program', /no such program/],
    [plain, './text', /may not be run/],
    [[...plain, '--network', 'chaperone'], 'true', /Without isolation nothing keeps/],
    [[...plain, '--for', 'soon'], 'true', /soon|for/],
    [[...plain, '--ttl', '1y'], 'true', /1y|ttl/],
    [[...plain, '--as', 'second'], 'true', /first|second/],
    ...(shm ? [[plain, 'true', /not a folder of yours alone/, { XDG_RUNTIME_DIR: shm }] as const] : []),
    ...(ability.bwrap === undefined
      ? []
      : ([
          [['--read', join(rig.dir, 'nowhere')], 'true', /no such file or folder/],
          [['--write', join(rig.dir, 'nowhere')], 'true', /no such file or folder/],
          [[], 'true', /holds the home folder/, { HOME: join(rig.work, 'inner') }],
          [[], 'true', /could read/, { CHAPERONE_HOME: rig.work }],
        ] as const)),
  ]
  const tried = cases.map(async ([args, program, says, env]) => {
    const run = start(t, ['agent', 'run', '--as', 'first', '--join', token, ...args, '--', program], {
      home: join(rig.dir, 'nobody'),
      cwd: rig.work,
      ...(env ? { env } : {}),
    })
    assert.notEqual(await run.ended, 0, `${args.join(' ')} ${program}`)
    assert.match(run.err(), says)
  })
  await Promise.all(tried)
  const run = start(t, ['agent', 'run', '--as', 'first', '--join', token, ...plain, '--', 'echo', 'done'], {
    home: join(rig.dir, 'nobody'),
    cwd: rig.work,
  })
  assert.equal(await run.ended, 0, run.err())
  assert.match(run.out(), /done/)
})
