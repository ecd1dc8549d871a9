import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { SessionRow } from '../../src/api/contract.ts'
import type { JoinWay } from '../../src/api/join-contract.ts'
import { ensureKeyFile } from '../../src/client/joining/bound-key.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { eventually } from '../../src/gateways/mcp/harness.fixture.ts'
import { startServer } from '../../src/server/start.ts'
import { apply } from '../parts/governed.ts'
import { type Ran, rigOfFile, runningRig, start } from './rig.ts'

type Rig = Awaited<ReturnType<typeof runningRig>>

/** Of those that neither lock nor stop anything. */
const rig = rigOfFile()

/** Says its number, and stays until it is told to go. */
const STAY = 'echo ready $$ $CHAPERONE_RUN; exec tail -f /dev/null'

const sessionsOf = async (rig: Rig) =>
  (await rig.boris.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions?of=first')).sessions.map(({ id }) => id)

const nth = async (runner: Ran, n: number) => {
  const [, pid = '', run = ''] = await runner.says(new RegExp(`(?:ready[^]*?){${n - 1}}ready (\\d+) (\\w+)\\n`))
  return { pid: Number(pid), run }
}

function daemon(t: TestContext, rig: Rig, joining: readonly string[], script = STAY) {
  const args = ['agent', 'run', ...joining, '--daemon', '--isolation', 'none', '--', 'sh', '-c', script]
  return start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work })
}

/** A machine that can join as `first` whenever it wants. */
async function machine(t: TestContext, options: Parameters<typeof runningRig>[2] = {}) {
  const rig = await runningRig(t, '', options)
  const keys = join(rig.dir, 'keys')
  await mkdir(keys)
  const keyFile = join(keys, 'machine.json')
  const { publicKey } = await ensureKeyFile(keyFile, 'machine')
  const pem = publicKey
    .trim()
    .split('\n')
    .map((line) => `        ${line}`)
    .join('\n')
  await apply(rig.dana, `kind: join\nname: machine\nspec:\n  agent: first\n  method: bound-key\n  bound-key:\n    keys:\n      - |\n${pem}\n`)
  const line = (await rig.dana.api.call<JoinWay>('GET', '/v1/joins/machine')).server
  return { rig, joining: ['--as', 'machine', '--method', 'bound-key', '--key-file', keyFile, '--join', line] }
}

test('a daemon with a token that works once joins once: a program that dies is started again in the same session, and SIGTERM ends all of it', async (t) => {
  const runner = daemon(t, rig, ['--as', 'first', '--join', await rig.token('first')])
  const first = await nth(runner, 1)
  const [session, ...more] = await sessionsOf(rig)
  assert.deepEqual(more, [])
  process.kill(first.pid, 'SIGKILL')
  const second = await nth(runner, 2)
  assert.notEqual(second.run, first.run, 'in a folder of its own')
  assert.deepEqual(await sessionsOf(rig), [session])
  assert.match(runner.err(), /it ended with 137, and is started again in 1 s/)
  assert.equal(runner.err().match(/ runs sh /g)?.length, 1, 'the same screen is shown once')
  runner.child.kill('SIGTERM')
  assert.equal(await runner.ended, 0)
  assert.deepEqual(await sessionsOf(rig), [])
  await eventually(() => !existsSync(`/proc/${second.pid}`), 'the program has gone')
  for (const { run } of [first, second]) assert.ok(!existsSync(join('/dev/shm', `chaperone-${process.getuid!()}`, run)))
})

test('a daemon whose session is over says that its token worked once, and ends with the code of the reason', async (t) => {
  const runner = daemon(t, rig, ['--as', 'first', '--join', await rig.token('first')])
  await nth(runner, 1)
  await rig.dana.api.call('DELETE', `/v1/sessions/${(await sessionsOf(rig))[0]}`)
  assert.equal(await runner.ended, 4)
  assert.match(runner.err(), /nothing to join again with/)
})

test('rule 4: a daemon that can prove what it is joins again when its session is over, and not when it is locked', async (t) => {
  const { rig, joining } = await machine(t)
  const runner = daemon(t, rig, joining)
  await nth(runner, 1)
  const [session] = await sessionsOf(rig)
  await rig.dana.api.call('DELETE', `/v1/sessions/${session}`)
  await nth(runner, 2)
  const now = await sessionsOf(rig)
  assert.equal(now.length, 1)
  assert.notEqual(now[0], session)
  await rig.dana.api.call('POST', '/v1/locks', { kind: 'identity', target: 'first', reason: 'a test' })
  assert.equal(await runner.ended, 3)
})

test('a daemon waits for a server that is not there, says so once, and its program lives through a restart', async (t) => {
  // It starts again on the same ports, which nobody may be given meanwhile.
  const [listen, webListen, postgresListen] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
  const { rig, joining } = await machine(t, { listen, webListen, postgresListen })
  const back = async () => {
    const server = await startServer({
      dataDir: join(rig.dir, 'data'),
      listen,
      webListen,
      postgresListen,
      admin: 'dana',
      logLevel: 'silent',
    })
    t.after(() => server.stop())
    return server
  }
  await rig.server.stop()
  const script = 'echo ready $$ $CHAPERONE_RUN; until test -e go; do sleep 0.05; done; chaperone whoami; echo asked $$; exec tail -f /dev/null'
  const runner = daemon(t, rig, joining, script)
  await runner.complains(/trying again/)
  const second = await back()
  const { pid } = await nth(runner, 1)
  assert.equal(runner.err().match(/trying again/g)?.length, 1)
  await second.stop()
  await back()
  await writeFile(join(rig.work, 'go'), '')
  const [, asked] = await runner.says(/asked (\d+)\n/)
  assert.match(runner.out(), /identity +agent first/)
  assert.equal(Number(asked), pid, 'the very same process')
  runner.child.kill('SIGTERM')
  assert.equal(await runner.ended, 0)
})

test('a daemon whose program is not there ends at once with 127, and has joined nothing', async (t) => {
  const args = ['agent', 'run', '--as', 'first', '--join', await rig.token('first'), '--daemon', '--', 'no-such-program']
  const runner = start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work })
  assert.equal(await runner.ended, 127)
  assert.deepEqual(await sessionsOf(rig), [])
})
