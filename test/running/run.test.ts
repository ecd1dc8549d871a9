import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { SessionRow } from '../../src/api/contract.ts'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { makePlace, runsFolder } from '../../src/client/running/place.ts'
import { apply, renewed } from '../parts/governed.ts'
import { rigOfFile, runningRig, start } from './rig.ts'

const ability = await probeAbility()
const PROFILE = '---\nkind: profile\nname: careful\nspec: { limits: { tools: ["fixture/test_*"] }, for: 2m }\n'

const message = (id: number | undefined, method: string, params: unknown) =>
  JSON.stringify({ jsonrpc: '2.0', ...(id === undefined ? {} : { id }), method, params })
/** A shell line that calls these tools through the shim, each with an answer on stdout. */
const calls = (...names: readonly string[]) => {
  const lines = [
    message(0, 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } }),
    message(undefined, 'notifications/initialized', {}),
    ...names.map((name, i) => message(i + 1, 'tools/call', { name, arguments: name === 'greet' ? { name: 'Ada' } : {} })),
  ]
  return `printf '%s\\n' ${lines.map((line) => `'${line}'`).join(' ')} | chaperone mcp connect fixture`
}

/** Of the tests that take nothing away from boris. */
const shared = rigOfFile(PROFILE)

async function person(t: TestContext, flags: readonly string[], script: string, rig = shared) {
  const began = Date.now()
  const run = start(t, ['run', ...flags, '--', 'sh', '-c', script], { home: rig.boris.home, cwd: rig.work, env: { HOME: rig.dir } })
  const sessions = async () =>
    (await rig.boris.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions')).sessions.filter(
      ({ how, startedAt }) => how === 'run' && startedAt >= began,
    )
  const allDelegations = () => rig.server.parts.store.db.selectFrom('delegations').selectAll().where('created_at', '>=', began).execute()
  const delegations = async () => (await allDelegations()).filter(({ how }) => how === 'run')
  return { rig, run, sessions, delegations, allDelegations }
}

test('rule 7: a run may do less than its person: a tool that was not named is refused, and the delegation says so in words and ends with the run', async (t) => {
  const { run, sessions, delegations } = await person(
    t,
    ['--tool', 'fixture/test_simple_text', '--purpose', 'a test'],
    calls('test_simple_text', 'greet'),
  )
  assert.equal(await run.ended, 0, run.err())
  assert.match(run.out(), /"id":1,.*"text":/)
  assert.match(run.out(), /"id":2,.*(?:delegation|may not)/i)
  assert.doesNotMatch(run.out(), /Hello, Ada/)
  const [row, ...others] = await delegations()
  assert.deepEqual(others, [])
  assert.deepEqual(JSON.parse(row!.limits), { tools: ['fixture/test_simple_text'] })
  assert.match(row!.words ?? '', /boris\/sh may act on behalf of boris.*test_simple_text/)
  assert.notEqual(row!.ended_at, null)
  assert.deepEqual(await sessions(), [])
  assert.match(run.err(), /limits +.*test_simple_text/)
})

test('a profile narrows, and a flag narrows it further; neither makes it wider, nor longer', async (t) => {
  const { run, delegations } = await person(
    t,
    ['--profile', 'careful', '--tool', 'fixture/test_simple_text', '--tool', 'fixture/greet', '--for', '1h'],
    'true',
  )
  assert.equal(await run.ended, 0, run.err())
  const [row] = await delegations()
  assert.deepEqual(JSON.parse(row!.limits), { tools: ['fixture/test_simple_text'] })
  assert.ok(row!.expires_at! - row!.created_at <= 120_000)
})

test('a run ends when its person signs out, and when its delegation is taken back', async (t) => {
  for (const how of ['logout', 'revoke'] as const) {
    const { rig, run, delegations, sessions } = await person(
      t,
      [],
      'echo ready; exec tail -f /dev/null',
      how === 'logout' ? await runningRig(t) : shared,
    )
    await run.says(/ready/)
    assert.equal((await sessions()).length, 1)
    if (how === 'logout') await rig.boris.api.call('POST', '/v1/logout', {})
    else await rig.server.parts.sessions.endDelegations([(await delegations())[0]!.id], 'revoked')
    assert.notEqual(await run.ended, 0)
    assert.match(run.err(), /boris\/sh has ended:/)
    assert.notEqual((await delegations())[0]!.ended_at, null)
  }
})

test('rule 5: the person’s own credential is not to be seen by what runs for him, nor are other runs', {
  skip: ability.bwrap === undefined && ability.why,
}, async (t) => {
  const other = await makePlace(await runsFolder({}))
  t.after(() => other.remove())
  const rig = shared
  await writeFile(join(rig.dir, 'secret'), 'of the person')
  const { run } = await person(
    t,
    [],
    'ls -A "$HOME/boris" | sed "s/^/home: /"; ls -A /dev/shm/chaperone-$(id -u)/ | sed "s/^/runs: /"; cat "$HOME/secret"; echo; ls /proc | grep -c "^[0-9]"',
  )
  assert.equal(await run.ended, 0, run.err())
  assert.ok(existsSync(join(rig.dir, 'boris', 'profiles')))
  assert.doesNotMatch(run.out(), /^home: /m)
  assert.equal(run.out().match(/^runs: /gm)?.length, 1)
  assert.match(run.out(), /of the person/, 'with the network open it works on the person’s own files')
  assert.ok(Number(/^\d+$/m.exec(run.out())?.[0]) < 10, 'no process of anybody else')
})

test('with --network chaperone the keys of the home folder are not there, and in the home folder itself it does not start', {
  skip: ability.bwrap === undefined && ability.why,
}, async (t) => {
  const rig = shared
  await mkdir(join(rig.dir, '.ssh'))
  await writeFile(join(rig.dir, '.ssh', 'id'), 'private')
  const options = { home: rig.boris.home, cwd: rig.work, env: { HOME: rig.dir, GITHUB_TOKEN: 'ghp' } }
  const inside = start(
    t,
    ['run', '--network', 'chaperone', '--', 'sh', '-c', 'cat $HOME/.ssh/id; echo token=$GITHUB_TOKEN; touch here; chaperone whoami'],
    options,
  )
  assert.equal(await inside.ended, 0, inside.err())
  assert.doesNotMatch(inside.out(), /private|ghp/)
  assert.match(inside.out(), /agent boris\/sh/)
  assert.ok(existsSync(join(rig.work, 'here')), 'the folder that it works in is its own to write to')
  assert.match(inside.err(), /not passed on: GITHUB_TOKEN/)
  const home = start(t, ['run', '--network', 'chaperone', '--', 'true'], { ...options, cwd: rig.dir })
  assert.notEqual(await home.ended, 0)
  assert.match(home.err(), /holds the home folder/)
})

test('a run starts no other run, and asks for no credential of its own', async (t) => {
  const { run } = await person(t, [], 'chaperone run -- true; chaperone agent run --as first -- true; chaperone mcp proxy; true')
  assert.equal(await run.ended, 0)
  assert.equal(run.err().match(/This is a run already/g)?.length, 3, run.err())
})

test('from inside, what the summary says can be typed: a role is asked for over the socket of the run', async (t) => {
  const rig = shared
  await apply(
    rig.dana,
    `kind: role
name: writer
spec: { allow: [{ mcp: fixture, can: any }] }
---
kind: role
name: caller
spec:
  allow: [{ mcp: fixture, can: any }]
  request: [{ role: writer, max: 10m, approvers: { users: [dana] } }]
`,
  )
  const script = 'chaperone requests ask writer --reason "a test" --for 5m; chaperone requests ls'
  const run = start(t, ['run', '--', 'sh', '-c', script], { home: rig.boris.home, cwd: rig.work })
  await run.ended
  assert.match(run.err(), /may ask +writer.*chaperone requests ask writer/)
  assert.match(run.out(), /req_/, run.err())
})

test('a client’s usual sign-in is not narrowed by a run of the same name that goes on beside it', async (t) => {
  const { rig, run, allDelegations } = await person(t, ['--client', 'editor', '--read-only'], 'echo ready; exec tail -f /dev/null')
  await run.says(/ready/)
  await renewed(t, rig.boris, 'editor')
  const rows = await allDelegations()
  assert.deepEqual(rows.map(({ how }) => how).sort(), ['client', 'run'])
  for (const { how, limits } of rows) assert.equal(limits === '{}', how !== 'run')
  run.child.kill('SIGTERM')
  await run.ended
})

test('what was applied meanwhile holds in a run that goes on', async (t) => {
  const { rig, run } = await person(t, [], `echo ready; until test -e go; do sleep 0.05; done; ${calls('greet')}`, await runningRig(t))
  await run.says(/ready/)
  await rig.dana.freshFactor()
  await apply(
    rig.dana,
    'kind: role\nname: caller\nspec:\n  allow:\n    - { mcp: fixture, can: any }\n  deny:\n    - { mcp: fixture, tools: greet }\n',
  )
  await writeFile(join(rig.work, 'go'), '')
  assert.equal(await run.ended, 0, run.err())
  assert.doesNotMatch(run.out(), /Hello, Ada/)
})

test('whose sign-in is over, and who names a server that is not there, hears the line that helps', async (t) => {
  const rig = await runningRig(t)
  const { home } = rig.boris
  const config = start(t, ['mcp', 'config', 'claude-code', 'fixture', 'fixtrue', '--print'], { home, cwd: rig.work })
  assert.equal(await config.ended, 0, config.err())
  assert.match(config.err(), /no MCP server fixtrue that you may see/)
  assert.doesNotMatch(config.err(), /no MCP server fixture /)

  const folder = join(home, 'profiles')
  for (const name of (await readdir(folder)).filter((file) => file.endsWith('.json'))) {
    const profile = JSON.parse(await readFile(join(folder, name), 'utf8'))
    if (profile.notAfter !== undefined) await writeFile(join(folder, name), JSON.stringify({ ...profile, notAfter: 1 }), { mode: 0o600 })
  }
  const run = start(t, ['run', '--', 'true'], { home, cwd: rig.work })
  assert.equal(await run.ended, 4, run.err())
  assert.match(run.err(), /no longer signed in as boris[\s\S]*chaperone login/)
})

test('the variable of `agent join` says to `agent run --method` which server it is', async (t) => {
  const rig = shared
  const line = `chaperone://${rig.server.addresses.data}?ca=${'0'.repeat(64)}&for=https%3A%2F%2Fchaperone.internal`
  const args = ['agent', 'run', '--as', 'ci', '--method', 'oidc', '--', 'true']
  const run = start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work, env: { CHAPERONE_JOIN: line } })
  assert.notEqual(await run.ended, 0)
  assert.match(run.err(), /not the one that the line names/, run.err())
})
