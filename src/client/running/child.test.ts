import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { bwrapArguments } from './bwrap.ts'
import { type ChildAsk, findProgram, type RunningChild, startChild } from './child.ts'
import { probeAbility } from './isolation.ts'

const ability = await probeAbility()
const WAYS = ability.bwrap === undefined ? (['none'] as const) : (['none', 'bubblewrap'] as const)

function run(t: TestContext, way: (typeof WAYS)[number], script: string, more: Partial<ChildAsk> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-child-'))
  mkdirSync(join(dir, 'runs'))
  const env = { PATH: process.env.PATH ?? '', CHAPERONE_RUN: dir }
  const bubblewrap =
    way === 'none' || ability.bwrap === undefined
      ? undefined
      : {
          path: ability.bwrap,
          ...bwrapArguments({
            network: 'open',
            program: '/bin/sh',
            args: ['-c', script],
            env,
            cwd: dir,
            home: '/nonexistent',
            runs: join(dir, 'runs'),
            own: { read: [], write: [], memory: [] },
            hide: [],
            read: [],
            write: [],
            newSession: true,
            ...(ability.env === undefined ? {} : { resetSignals: ability.env }),
          }),
        }
  const child = startChild({
    program: '/bin/sh',
    args: ['-c', script],
    env,
    cwd: dir,
    mark: dir,
    terminal: false,
    stdio: 'pipe',
    ...(bubblewrap ? { bubblewrap } : {}),
    ...(ability.setpriv === undefined ? {} : { setpriv: ability.setpriv }),
    ...(ability.prlimit === undefined ? {} : { prlimit: ability.prlimit }),
    ...(ability.env === undefined ? {} : { signals: ability.env }),
    ...more,
  })
  t.after(async () => {
    child.process.kill('SIGKILL')
    await child.ended.catch(() => {})
    rmSync(dir, { recursive: true, force: true })
  })
  return { child, dir }
}

const said = (child: RunningChild, pattern: RegExp) =>
  new Promise<RegExpExecArray>((done) => {
    let text = ''
    child.process.stdout!.on('data', (chunk: Buffer) => {
      text += chunk
      const found = pattern.exec(text)
      if (found) done(found)
    })
  })

for (const way of WAYS) {
  test(`${way}: the exit code is the program’s, and 128 with the number of the signal that it died of`, async (t) => {
    assert.equal(await run(t, way, 'exit 7').child.ended, 7)
    assert.equal(await run(t, way, 'kill -KILL $$').child.ended, 137)
    assert.equal(await run(t, way, 'kill -TERM $$').child.ended, 143)
  })

  test(`${way}: a signal goes to the program itself, which may answer it as it likes`, async (t) => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) {
      const { child } = run(t, way, `trap 'echo got; exit 9' ${name.slice(3)}; echo ready; while :; do sleep 0.05; done`)
      await said(child, /ready/)
      child.signal(name)
      assert.equal(await child.ended, 9, name)
    }
  })

  test(`${way}: a program that does not go when its identity has ended is killed after the time it is given, with all that it started`, async (t) => {
    const clock = manualClock(0)
    const { child, dir } = run(
      t,
      way,
      `trap '' TERM; (trap '' TERM; while :; do touch alive; sleep 0.05; done) & echo ready; wait; while :; do sleep 0.05; done`,
      { clock },
    )
    await said(child, /ready/)
    child.stop()
    clock.advance(4_999)
    assert.equal(child.process.exitCode ?? child.process.signalCode, null)
    clock.advance(1)
    assert.equal(await child.ended, 137)
    rmSync(join(dir, 'alive'), { force: true })
    await new Promise((done) => setTimeout(done, 150))
    assert.ok(!existsSync(join(dir, 'alive')), 'something of it still runs')
  })

  test(`${way}: what the program left in the background has ended when it has`, async (t) => {
    const { child, dir } = run(
      t,
      way,
      `(while :; do touch alive; sleep 0.02; done) >/dev/null 2>&1 & setsid sh -c 'while :; do touch far; sleep 0.02; done' >/dev/null 2>&1 & while ! test -e far; do sleep 0.02; done; exit 0`,
    )
    assert.equal(await child.ended, 0)
    for (const name of ['alive', 'far']) rmSync(join(dir, name), { force: true })
    await new Promise((done) => setTimeout(done, 100))
    assert.deepEqual(
      ['alive', 'far'].filter((name) => existsSync(join(dir, name))),
      [],
    )
  })
}

test('none: what has left its group, its session, its parent and its environment has ended when the program has', {
  skip: ability.prlimit === undefined && 'no prlimit',
}, async (t) => {
  const { child } = run(
    t,
    'none',
    // Twice forked, in a session of its own, with nothing in its environment and a working folder elsewhere.
    `(cd / && exec env -i /usr/bin/setsid /bin/sh -c '/bin/sh -c "echo far \\$\\$; exec tail -f /dev/null" & exit 0') 2>/dev/null & read -r _`,
  )
  const [, pid = ''] = await said(child, /far (\d+)\n/)
  t.after(() => stateOf(pid) !== '' && process.kill(Number(pid), 'SIGKILL'))
  assert.match(stateOf(pid), /[RSD]/)
  child.process.stdin!.end('done\n')
  assert.equal(await child.ended, 0)
  assert.doesNotMatch(stateOf(pid), /[RSDT]/)
})

/** Field 3 of proc(5); nothing of one that is gone. */
const stateOf = (pid: string) => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '')[0]!
  } catch {
    return ''
  }
}

test('a program is found as a shell finds it: on the path, by its own path, or not at all', () => {
  assert.equal(findProgram('sh', '/nowhere:/bin', '/'), '/bin/sh')
  assert.equal(findProgram('./bin/sh', '', '/'), '/bin/sh')
  assert.equal(findProgram('sh', 'bin', '/'), undefined)
  assert.equal(findProgram('/etc/passwd', '', '/'), 'forbidden')
})
