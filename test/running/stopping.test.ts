import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { keepCredential } from '../../src/client/credential.ts'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { joinedIssuer } from '../../src/client/running/issuers.ts'
import { runProgram } from '../../src/client/running/run.ts'
import { join as joinBy } from '../../src/client/sign-in.ts'
import { manualClock } from '../../src/clock.ts'
import { rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const rig = rigOfFile()
const home = () => join(rig.dir, 'nobody')

for (const flags of [[], ['--daemon']])
  test(`SIGTERM while it joins a server that never answers ends it at once${flags.length > 0 ? ', a daemon too' : ''}`, async (t) => {
    const asked: Socket[] = []
    const silent = createServer((socket) => void asked.push(socket)).listen(0, '127.0.0.1')
    t.after(() => {
      for (const socket of asked) socket.destroy()
      silent.close()
    })
    await once(silent, 'listening')
    const line = (await rig.token('first')).replace(/\/\/[^/]+/, `//127.0.0.1:${(silent.address() as { port: number }).port}`)
    const run = start(t, ['agent', 'run', '--as', 'first', ...flags, '--join', line, '--', 'true'], { home: home(), cwd: rig.work })
    await once(silent, 'connection')
    const began = performance.now()
    run.child.kill('SIGTERM')
    assert.equal(await run.ended, flags.length > 0 ? 0 : 143, run.err())
    assert.ok(performance.now() - began < 20_000)
  })

/** The state of a process, as proc(5) has it: T stands still. */
const stateOf = (pid: number) => readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '')[0]
async function becomes(pid: number, state: RegExp): Promise<void> {
  while (!state.test(stateOf(pid)!)) await turn()
}

for (const flags of [...(ability.bwrap === undefined ? [] : [[]]), ['--isolation', 'none']])
  test(`a runner that is told to stand still takes its program with it, and both go on together, ${flags.length === 0 ? 'in bubblewrap' : 'without isolation'}`, {
    skip: process.platform !== 'linux' && 'no /proc',
    timeout: 180_000,
  }, async (t) => {
    const run = start(
      t,
      [
        'agent',
        'run',
        '--as',
        'first',
        ...flags,
        '--join',
        await rig.token('first'),
        '--',
        'sh',
        '-c',
        'echo ready $CHAPERONE_RUN; exec tail -f /dev/null',
      ],
      {
        home: home(),
        cwd: rig.work,
      },
    )
    const [, id = ''] = await run.says(/ready (\w+)\n/)
    const program = await tailOf(id)
    run.child.kill('SIGTSTP')
    await becomes(run.child.pid!, /T/)
    await becomes(program, /T/)
    run.child.kill('SIGCONT')
    await becomes(run.child.pid!, /[SR]/)
    await becomes(program, /[SR]/)
    run.child.kill('SIGTERM')
    assert.equal(await run.ended, 143)
  })

/** The program, seen from outside. */
async function tailOf(run: string): Promise<number> {
  for (;;) {
    for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
      try {
        const [line, environ] = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${name}/${file}`, 'latin1'))
        if (line?.startsWith('tail') && environ?.includes(`CHAPERONE_RUN=${run}`)) return Number(name)
      } catch {
        // Gone meanwhile, or not ours.
      }
    }
    await turn()
  }
}

test('--for, on a clock that is moved: at its end, and not before, the program is told to go, and five seconds later it goes', async (t) => {
  const token = await rig.token('second')
  const clock = manualClock(Date.now())
  const said: string[] = []
  const started = Promise.withResolvers<void>()
  const issuer = joinedIssuer(() => joinBy(token, { for: '3m' }))
  let text = ''
  let until = 0
  const code = runProgram({
    command: ['sh', '-c', "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done"],
    kind: 'agent',
    isolation: 'none',
    hide: [],
    say: (line) => void said.push(line),
    cwd: rig.work,
    env: { PATH: process.env.PATH, HOME: home() },
    terminal: false,
    clock,
    stdio: 'pipe',
    started: ({ process: child }) => {
      child.stdout!.on('data', (chunk: Buffer) => {
        text += chunk
        if (text.includes('ready')) started.resolve()
      })
      t.after(() => child.kill('SIGKILL'))
    },
    begin: async () => {
      const keeper = await keepCredential(issuer, { clock })
      until = keeper.current().profile.sessionUntil
      return keeper
    },
  })
  await started.promise
  assert.ok(until - Date.now() <= 180_000)
  clock.advance(until - clock.now() - 2_000)
  await turn()
  assert.doesNotMatch(said.join('\n'), /has ended/)
  clock.advance(2_000)
  while (!text.includes('told')) await turn()
  assert.match(said.join('\n'), /second has ended: /)
  clock.advance(5_000)
  assert.equal(await code, 137)
})
