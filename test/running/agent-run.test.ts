import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, readlinkSync, watch } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import type { LockRow, SessionRow } from '../../src/api/contract.ts'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { eventually } from '../../src/gateways/mcp/harness.fixture.ts'
import { ask } from '../parts/house.ts'
import { type Ran, rigOfFile, start } from './rig.ts'

const ability = await probeAbility()
const WAYS = [...(ability.bwrap === undefined ? [] : [[]]), ['--isolation', 'none']] as const
const SECRETS = { AWS_SECRET_ACCESS_KEY: 'secret-of-the-parent', CHAPERONE_TOTP: '424242', EDITOR: 'vi-of-the-parent' }
/** Stays until it is told to go. */
const STAY = 'echo ready $CHAPERONE_RUN; exec tail -f /dev/null'

/** Every process of a run, seen from outside. */
function processesOf(run: string) {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const environ = read(() => readFileSync(`/proc/${pid}/environ`, 'latin1'))
      if (!environ?.includes(`CHAPERONE_RUN=${run}`)) return []
      // One that ends, or a file that is closed, while it is looked at.
      const fds = (read(() => readdirSync(`/proc/${pid}/fd`)) ?? []).flatMap((fd) => {
        const path = read(() => readlinkSync(`/proc/${pid}/fd/${fd}`))
        return path === undefined ? [] : [`${fd} ${path}`]
      })
      return [{ pid: Number(pid), environ, cmdline: read(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1')) ?? '', fds }]
    })
}

function read<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}

/** The shell says that it is ready and becomes what it stays: for a moment such a process has no environment to look at. */
const staying = (run: string, count: number) =>
  eventually(() => processesOf(run).filter(({ cmdline }) => cmdline.startsWith('tail\0')).length === count, `${count} of the run stay`)
/** Who is killed is gone a moment after it was told. */
const nobodyOf = (run: string) => eventually(() => processesOf(run).length === 0, 'nothing of the run is left')

const rig = rigOfFile()

async function agent(t: TestContext, flags: readonly string[], script: string, as = 'first', more: NodeJS.ProcessEnv = {}) {
  const token = await rig.token(as)
  const runner = start(t, ['agent', 'run', '--as', as, '--join', token, ...flags, '--', 'sh', '-c', script], {
    home: join(rig.dir, 'nobody'),
    cwd: rig.work,
    env: { ...SECRETS, ...more },
  })
  return { runner, token }
}

const sessionsOf = async (name: string) => (await rig.boris.api.call<{ sessions: SessionRow[] }>('GET', `/v1/sessions?of=${name}`)).sessions

const folderOf = async (runner: Ran, { XDG_RUNTIME_DIR, TMPDIR }: NodeJS.ProcessEnv = {}) => {
  const [, run = ''] = await runner.says(/ready (\S+)\n/)
  const runs = [
    ...(XDG_RUNTIME_DIR === undefined ? [] : [join(XDG_RUNTIME_DIR, 'chaperone-run')]),
    ...['/dev/shm', TMPDIR ?? process.env.TMPDIR ?? '/tmp'].map((base) => join(base, `chaperone-${process.getuid?.() ?? 0}`)),
  ]
    .map((base) => join(base, run))
    .find((path) => existsSync(path))
  assert.ok(runs, 'the folder of the run is there')
  return { run, folder: runs }
}

/** Every start takes away what killed runs have left, also one of another test file that runs beside this one: so these runs lie elsewhere. */
async function ownRuns(t: TestContext): Promise<NodeJS.ProcessEnv> {
  const memory = await mkdtemp('/dev/shm/chaperone-test-').catch(() => undefined)
  const folder = memory ?? (await mkdtemp(join(rig.dir, 'runs-')))
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return memory === undefined ? { TMPDIR: folder } : { XDG_RUNTIME_DIR: folder }
}

for (const flags of WAYS) {
  const how = flags.length === 0 ? 'in bubblewrap' : 'without isolation'

  test(`rule 5: ${how} an agent’s environment, command line and open files, read from outside, hold no secret and nothing of who started it`, async (t) => {
    const { runner, token } = await agent(t, flags, STAY)
    const { run, folder } = await folderOf(runner)
    await staying(run, 1)
    const found = processesOf(run)
    const key = readFileSync(join(folder, 'svid', 'svid_key.pem'), 'utf8').split('\n')[1]!
    for (const { environ, cmdline, fds } of found) {
      for (const value of [...Object.values(SECRETS), token, key, 'PRIVATE KEY', rig.dir.concat('/nobody')]) {
        assert.ok(!environ.includes(value), `the environment holds ${value}`)
        assert.ok(!cmdline.includes(value), `the command line holds ${value}`)
      }
      // What it opened itself: the file that it looks at; and of one that is just being loaded, its libraries.
      const open = fds.filter((fd) => !/^(?:[012] |\d+ (?:anon_inode:inotify|\/dev\/null|\/usr\/|\/etc\/|\/lib(?:64)?\/))/.test(fd))
      assert.deepEqual(open, [], 'only what it reads from and writes to')
    }
    const names = found[0]!.environ.split('\0').flatMap((entry) => (entry === '' ? [] : [entry.split('=')[0]!]))
    const allowed = /^(?:PATH|HOME|TMPDIR|LANG|TERM|NO_COLOR|PWD|_|SHLVL|OLDPWD|CHAPERONE_(?:RUN|SOCKET|API|ADDRESS|MCP_CONFIG|SVID_DIR))$/
    assert.deepEqual(
      names.filter((name) => !allowed.test(name)),
      [],
    )
    runner.child.kill('SIGTERM')
    await runner.ended
  })

  test(`${how} the exit code is the program’s, a signal reaches it, and nothing is left: no file, no process, no session`, async (t) => {
    const { runner } = await agent(t, flags, `trap 'exit 23' TERM; echo ready $CHAPERONE_RUN; while :; do sleep 0.05; done`)
    const { run, folder } = await folderOf(runner)
    assert.equal((await sessionsOf('first')).length, 1)
    runner.child.kill('SIGTERM')
    assert.equal(await runner.ended, 23)
    assert.ok(!existsSync(folder))
    await nobodyOf(run)
    assert.deepEqual(await sessionsOf('first'), [])
  })

  test(`rule 4: ${how} the program ends with its identity: a lock is heard at once, and the runner says why`, async (t) => {
    // Its session outlasts it: who is locked cannot even leave.
    const { runner } = await agent(t, flags, STAY, 'second')
    const { folder } = await folderOf(runner)
    const began = performance.now()
    const { id } = await rig.dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'identity', target: 'second', reason: 'a test' })
    assert.notEqual(await runner.ended, 0)
    assert.ok(performance.now() - began < 60_000, 'before any renewal')
    assert.match(runner.err(), /second has ended: .*lock/i)
    await rig.dana.api.call('DELETE', `/v1/locks/${id}`)
    assert.ok(!existsSync(folder))
  })
}

test('a runner that is killed leaves nothing: its program, what that started, its files and its session end within a moment', async (t) => {
  // One of them in a session of its own, and with nothing of the run in its environment.
  const far = ability.prlimit === undefined ? '' : `env -i /usr/bin/setsid /bin/sh -c 'echo far $$; exec tail -f /dev/null' & `
  const { runner } = await agent(t, ['--isolation', 'none'], `${far}tail -f /dev/null & ${STAY}`)
  const left = far === '' ? undefined : Number((await runner.says(/far (\d+)/))[1])
  const { run, folder } = await folderOf(runner)
  await staying(run, 2)
  const gone = new Promise<void>((done) => {
    const watcher = watch(join(folder, '..'), () => {
      if (existsSync(folder)) return
      watcher.close()
      done()
    })
  })
  runner.child.kill('SIGKILL')
  await gone
  await runner.ended
  await nobodyOf(run)
  if (left !== undefined) await eventually(() => !existsSync(`/proc/${left}/exe`), 'what had left everything has ended as well')
  assert.deepEqual(await sessionsOf('first'), [])
})

test('what nobody could take away, because everything was killed at once, the next start does: session and files', async (t) => {
  const own = await ownRuns(t)
  const { runner } = await agent(t, ['--isolation', 'none'], STAY, 'first', own)
  const { run, folder } = await folderOf(runner, own)
  const children = () => readFileSync(`/proc/${runner.child.pid}/task/${runner.child.pid}/children`, 'utf8').trim().split(' ').map(Number)
  const cleaner = () => children().find((pid) => read(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1'))?.includes('read -r _'))
  await eventually(() => cleaner() !== undefined, 'somebody waits for the end of the runner')
  process.kill(cleaner()!, 'SIGKILL')
  runner.child.kill('SIGKILL')
  await runner.ended
  if (ability.setpriv !== undefined || ability.bwrap !== undefined) await nobodyOf(run)
  assert.ok(existsSync(folder))
  assert.equal((await sessionsOf('first')).length, 1)
  const next = start(t, ['agent', 'run', '--as', 'second', '--join', await rig.token('second'), '--', 'true'], {
    home: join(rig.dir, 'nobody'),
    cwd: rig.work,
    env: own,
  })
  assert.equal(await next.ended, 0, next.err())
  assert.ok(!existsSync(folder))
  assert.deepEqual(await sessionsOf('first'), [])
})

test('a program that is not there ends with 127 before anything has begun', async (t) => {
  const runner = start(t, ['agent', 'run', '--as', 'first', '--join', await rig.token('first'), '--', 'no-such-program'], {
    home: join(rig.dir, 'nobody'),
    cwd: rig.work,
  })
  assert.equal(await runner.ended, 127)
  assert.deepEqual(await sessionsOf('first'), [])
})

test('rule 2: with --network chaperone the program reaches Chaperone, by its socket and by the shim, and nothing else', {
  skip: ability.bwrap === undefined && ability.why,
}, async (t) => {
  const elsewhere = createServer((_, response) => response.end('reached')).listen(0, '127.0.0.1')
  t.after(() => elsewhere.close())
  await new Promise((done) => elsewhere.once('listening', done))
  const { port } = elsewhere.address() as AddressInfo
  const hello =
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
  const script = [
    `node -e 'fetch("http://127.0.0.1:${port}").then(() => console.log("elsewhere yes"), () => console.log("elsewhere no"))'`,
    `node -e 'fetch("http://127.0.0.1:" + process.argv[1]).then(() => console.log("door yes"), (e) => console.log("door", e.cause.code))' ${'$'}{CHAPERONE_ADDRESS##*:}`,
    `printf '%s\\n' '${hello}' | chaperone mcp connect fixture`,
    'chaperone whoami',
    'cat /etc/shadow $HOME/../owner.json 2>&1 | sed "s/^/read: /"',
    'ls /home /root 2>&1 | sed "s/^/list: /"',
    'ls /dev/shm/*/ | sed "s/^/run: /"',
  ].join('\n')
  const { runner } = await agent(t, ['--network', 'chaperone'], script)
  assert.equal(await runner.ended, 0, runner.err())
  const out = runner.out()
  assert.match(out, /elsewhere no/)
  assert.ok(!/elsewhere yes|door yes/.test(out))
  assert.match(out, /"serverInfo"/)
  assert.match(out, /identity +agent first/)
  assert.match(out, /read: .*\/etc\/shadow: No such file/)
  assert.match(out, /read: .*owner\.json: No such file/)
  assert.deepEqual(out.match(/^run: .*$/gm)?.length, 1, 'its own run alone')
})

test('what would copy the runner’s credential, or end it, is not to be had at the door, however it is written', async (t) => {
  const asks = [
    '/v1/renew',
    '/v1/renew/',
    '/v1//renew',
    '/v1/./renew',
    '/v1/%72enew',
    '/v1/x/../renew',
    '/v1/renew?x',
    '/v1/renew#x',
    '/v1/logout',
    '/v1/runs',
    '/v1/clients',
    '/v1/prove',
    '/metrics',
    '//v1/renew',
  ]
  const script = asks
    .map(
      (path) =>
        `curl -s -o /dev/null -w '${path} %{http_code}\\n' --request-target '${path}' --unix-socket $CHAPERONE_SOCKET -X POST -H 'content-type: application/json' -d '{}' http://x/`,
    )
    .join('\n')
  const { runner } = await agent(t, ['--isolation', 'none'], `${script}\nchaperone whoami`)
  assert.equal(await runner.ended, 0, runner.err())
  const answers = runner.out().match(/^\/\S+ \d+$/gm) ?? []
  assert.equal(answers.length, asks.length)
  for (const answer of answers) assert.match(answer, / (?:403|404)$/)
  assert.match(runner.out(), /identity +agent first/, 'and it lives on')
  assert.deepEqual(await sessionsOf('first'), [])
})

test('a token that it asks for says who it is to somebody else, is verified with the published keys, and opens nothing at Chaperone', async (t) => {
  const { runner } = await agent(t, [], 'chaperone agent jwt --audience https://api.example.com')
  assert.equal(await runner.ended, 0, runner.err())
  const token = runner.out().trim()
  const { web } = rig.server.addresses
  const keys = JSON.parse((await ask(web, '/svid/jwks.json')).text) as JSONWebKeySet
  const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(keys), { audience: 'https://api.example.com' })
  assert.match(payload.sub!, /^spiffe:\/\/[^/]+\/agent\/first$/)
  assert.equal(protectedHeader.typ, 'JWT')
  const { status } = await ask(web, '/mcp/fixture', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{}',
  })
  assert.equal(status, 401)
  const upstreams = JSON.parse((await ask(web, '/identity/jwks.json')).text) as JSONWebKeySet
  await assert.rejects(jwtVerify(token, createLocalJWKSet(upstreams)), 'upstreams that believe what comes through Chaperone do not believe this')
})

test('--for is an end that no renewal moves: the session is made that long', async (t) => {
  const { runner } = await agent(t, ['--for', '45s', '--isolation', 'none'], STAY)
  await folderOf(runner)
  const [child] = await sessionsOf('first')
  assert.ok(child && child.expiresAt - child.startedAt <= 45_000)
  runner.child.kill('SIGTERM')
  await runner.ended
  assert.deepEqual(await sessionsOf('first'), [])
})
