import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { answerOf, type Harness, harness, openSession } from './harness.test.ts'
import { type How, isolator, type Means, probe } from './isolation.ts'

const means = await probe()
const root = process.getuid?.() === 0
const base = mkdtempSync(join(tmpdir(), 'chaperone-isolation-'))
chmodSync(base, 0o755)
after(() => rmSync(base, { recursive: true, force: true }))

/** A server whose tools do to the machine what their name says, and tell what came of it. */
const thief = join(base, 'thief.mjs')
writeFileSync(
  thief,
  `
import * as fs from 'node:fs'
import { createInterface } from 'node:readline'
const attempt = (act) => { try { return String(act()) } catch (error) { return error.code ?? error.message } }
const tools = {
  read: ({ path }) => attempt(() => fs.readFileSync(path, 'utf8')),
  list: ({ path }) => attempt(() => fs.readdirSync(path).length),
  write: ({ path }) => attempt(() => fs.writeFileSync(path, 'mine') ?? 'written'),
  environments: () => attempt(() => fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name) && +name !== process.pid).flatMap((pid) => { try { return [fs.readFileSync('/proc/' + pid + '/environ', 'utf8')] } catch { return [] } }).join()),
  whoami: () => JSON.stringify({ uid: process.getuid(), cwd: process.cwd(), pid: process.pid }),
}
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined) return
  const result = method === 'initialize' ? { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: {} } : { content: [{ type: 'text', text: tools[params.name](params.arguments ?? {}) }] }
  process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\\n')
})
`,
)
chmodSync(thief, 0o644)

const usable: How[] = ['none']
if (means.user.works) usable.push('user')
if (means.bubblewrap.works) usable.push('bubblewrap')
const missing = (how: How) => (usable.includes(how) ? false : `${how} does not work here: ${how === 'none' ? '' : JSON.stringify(means[how])}`)

const steal = async (how: How, spec: object, act: (given: Harness, use: (tool: string, args?: object) => Promise<string>) => Promise<void>) => {
  const given = await harness({
    role: { allow: [{ mcp: 'any', tools: 'any' }] },
    servers: {
      thief: { command: [process.execPath, thief], isolation: how, env: { SECRET: 'of-the-first' }, ...spec },
      second: { command: [process.execPath, thief], isolation: how, env: { SECRET: 'of-the-second' } },
    },
  })
  try {
    const session = await openSession(given, 'thief')
    await act(given, async (name, args = {}) => {
      const answer = await answerOf(
        await given.post('thief', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } }, session),
      )
      return answer.result.content[0].text
    })
  } finally {
    await given.close()
  }
}

describe('a stdio child that tries to read the keys', () => {
  for (const how of ['user', 'bubblewrap'] as const) {
    test(`rule 5: under ${how} it sees neither the data directory nor another server's secrets`, { skip: missing(how) }, async () => {
      await steal(how, {}, async (given, use) => {
        const key = join(given.dataDir, 'keys', 'root')
        assert.equal(readFileSync(key, 'utf8'), 'the root key')
        assert.match(await use('read', { path: key }), /^(EACCES|ENOENT)$/)
        assert.match(await use('list', { path: given.dataDir }), /^(EACCES|ENOENT)$/)
        assert.match(await use('write', { path: join(given.dataDir, 'x') }), /^(EACCES|ENOENT|EROFS)$/)
        assert.match(await use('read', { path: '/etc/shadow' }), /^(EACCES|ENOENT)$/)
        await openSession(given, 'second')
        assert.doesNotMatch(await use('environments'), /of-the-second/)
        assert.equal(given.of('server.started')[0]?.data?.isolation, how)
      })
    })
  }

  test('with isolation: none it sees them, which is recorded: what is tested above can fail', async () => {
    await steal('none', {}, async (given, use) => {
      assert.equal(await use('read', { path: join(given.dataDir, 'keys', 'root') }), 'the root key')
      await openSession(given, 'second')
      assert.match(await use('environments'), /of-the-second/)
      assert.equal(given.of('server.started')[0]?.data?.isolation, 'none')
    })
  })

  test('each has a folder of its own, which is gone when it is', { skip: missing('user') }, async () => {
    let cwd = ''
    await steal('user', {}, async (_, use) => {
      const who = JSON.parse(await use('whoami'))
      cwd = who.cwd
      assert.notEqual(who.uid, process.getuid?.())
      assert.equal(await use('write', { path: join(cwd, 'x') }), 'written')
    })
    assert.equal(existsSync(cwd), false)
  })

  test('bubblewrap shows the folders that the document lists, to read or to write', { skip: missing('bubblewrap') }, async () => {
    const [shown, own, hidden] = ['shown', 'own', 'hidden'].map((name) => {
      mkdirSync(join(base, name))
      writeFileSync(join(base, name, 'a'), name)
      return join(base, name)
    }) as [string, string, string]
    chmodSync(own, 0o777)
    await steal('bubblewrap', { read: [shown], write: [own] }, async (_, use) => {
      assert.equal(await use('read', { path: join(shown, 'a') }), 'shown')
      assert.match(await use('write', { path: join(shown, 'b') }), /^(EROFS|EACCES)$/)
      assert.equal(await use('write', { path: join(own, 'b') }), 'written')
      assert.equal(await use('read', { path: join(hidden, 'a') }), 'ENOENT')
    })
    assert.equal(readFileSync(join(own, 'b'), 'utf8'), 'mine')
  })

  test('bubblewrap covers the data directory and the root key beside it, even inside a folder that is listed', {
    skip: missing('bubblewrap'),
  }, async () => {
    await steal('bubblewrap', { read: [tmpdir()] }, async (given, use) => {
      chmodSync(given.dataDir, 0o755)
      chmodSync(join(given.dataDir, 'keys', 'root'), 0o644)
      assert.match(await use('read', { path: join(given.dataDir, 'keys', 'root') }), /^(EACCES|ENOENT)$/)
      assert.equal(await use('list', { path: given.dataDir }), '0')
      assert.match(await use('read', { path: `${given.dataDir}.root-key` }), /^(EACCES)?$/)
    })
  })
})

describe('what cannot be isolated is not started', () => {
  const no = (error: string) => ({ works: false as const, error })
  const nothing: Means = { root: false, user: no('not root'), bubblewrap: no('not installed') }
  const spec = { command: [process.execPath, thief], read: [], write: [], network: true }
  const prepare = (given: Means, more: object = {}, dataDir = '/var/lib/chaperone') =>
    isolator({ dataDir, means: async () => given }).prepare({ id: 'res_x', name: 'x' }, { ...spec, ...more })
  const refused = (code: string, text: RegExp) => (error: unknown) =>
    error instanceof ChaperoneError && error.code === code && text.test(`${error.message} ${error.fix} ${error.detail}`)

  test('rule 1: without any means a server is refused, with what to install or write', async () => {
    await assert.rejects(prepare(nothing), refused('isolation_unavailable', /apt install bubblewrap.*isolation: none/s))
    await assert.rejects(prepare(nothing, { isolation: 'user' }), refused('isolation_unavailable', /not root/))
    const launch = await prepare(nothing, { isolation: 'none' })
    assert.equal(launch.how, 'none')
    launch.release()
  })

  test('rule 1: a server that is to have no network is not started where it would have one', async () => {
    const root = { ...nothing, root: true, user: { works: true as const } }
    for (const more of [{}, { isolation: 'user' }, { isolation: 'none' }])
      await assert.rejects(prepare(root, { ...more, network: false }), refused('isolation_unavailable', /from the network/))
  })

  test('the strongest means is taken', { skip: !root && 'needs root' }, async () => {
    const works = { works: true as const, path: '/usr/bin/bwrap' }
    for (const [given, how] of [
      [{ ...nothing, root: true, user: works, bubblewrap: works }, 'bubblewrap'],
      [{ ...nothing, root: true, user: works }, 'user'],
    ] as const) {
      const launch = await prepare(given)
      assert.equal(launch.how, how)
      assert.ok((launch.uid ?? 0) > 60_000)
      launch.release()
    }
  })

  test('two servers never share a user, one server always has the same', { skip: !root && 'needs root' }, async () => {
    const given = isolator({ dataDir: '/nowhere', means: async () => ({ ...nothing, root: true, user: { works: true } }) })
    const launches = await Promise.all(['a', 'b', 'a', 'c'].map((id) => given.prepare({ id, name: id }, spec)))
    const uids = launches.map((launch) => launch.uid)
    assert.equal(uids[0], uids[2])
    assert.equal(new Set(uids).size, 3)
    for (const launch of launches) launch.release()
  })

  test('a program that the other user cannot read is named, with what to do', { skip: !root && 'needs root' }, async () => {
    const closed = join(base, 'closed')
    mkdirSync(closed, { mode: 0o700 })
    writeFileSync(join(closed, 'server.mjs'), '')
    const given = { ...nothing, root: true, user: { works: true as const } }
    await assert.rejects(
      prepare(given, { command: [process.execPath, join(closed, 'server.mjs')] }),
      refused('isolation_unavailable', /closed is closed to uid.*|chmod o\+rX/s),
    )
  })

  test('rule 5: no folder of the data directory is given to a child, by whatever name', async () => {
    const dataDir = join(base, 'data')
    mkdirSync(join(dataDir, 'keys'), { recursive: true })
    symlinkSync(join(dataDir, 'keys'), join(base, 'alias'))
    for (const folder of [dataDir, join(dataDir, 'keys'), join(base, 'alias'), join(base, 'x', '..', 'data')]) {
      await assert.rejects(
        prepare(nothing, { isolation: 'none', read: [folder] }, dataDir),
        refused('isolation_unavailable', /data directory/),
        folder,
      )
    }
    await assert.rejects(prepare(nothing, { isolation: 'none', write: ['relative'] }, dataDir), refused('upstream_unavailable', /absolute/))
  })
})
