import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { eventually } from '../harness.fixture.ts'
import { environmentFor } from './child-environment.ts'
import { type How, isolator, type Means, probe } from './isolation.ts'
import { type PoolFixture, poolFixture, type TestSession } from './stdio.fixture.ts'

const means = await probe()
const root = process.getuid?.() === 0
const base = mkdtempSync(join(tmpdir(), 'chaperone-isolation-'))
chmodSync(base, 0o755)
after(() => rmSync(base, { recursive: true, force: true }))

const usable: How[] = ['none']
if (means.user.works) usable.push('user')
if (means.bubblewrap.works) usable.push('bubblewrap')
const missing = (how: How) => (usable.includes(how) ? false : `${how} does not work here: ${how === 'none' ? '' : JSON.stringify(means[how])}`)

type Use = (tool: string, args?: object) => Promise<string>

const steal = async (how: How, spec: object, act: (given: PoolFixture, use: Use, other: () => Promise<Use>) => Promise<void>) => {
  const given = poolFixture()
  const started = async (server: string, more: object): Promise<Use> => {
    const session = given.session({ server, spec: { isolation: how, ...more } })
    await session.hello()
    return session.tool
  }
  try {
    await act(given, await started('thief', { env: { SECRET: 'of-the-first' }, ...spec }), () =>
      started('second', { env: { SECRET: 'of-the-second' } }),
    )
  } finally {
    await given.close()
  }
}

describe('a stdio child that tries to read what is not its own', () => {
  for (const how of ['user', 'bubblewrap'] as const) {
    test(`rule 5: under ${how} it sees neither the data directory nor what another server knows`, { skip: missing(how) }, async () => {
      await steal(how, {}, async (given, use, other) => {
        const key = join(given.dataDir, 'keys', 'root')
        assert.equal(readFileSync(key, 'utf8'), 'the root key')
        assert.match(await use('read', { path: key }), /^(EACCES|ENOENT)$/)
        assert.match(await use('list', { path: given.dataDir }), /^(EACCES|ENOENT)$/)
        assert.match(await use('write', { path: join(given.dataDir, 'x') }), /^(EACCES|ENOENT|EROFS)$/)
        assert.match(await use('read', { path: '/etc/shadow' }), /^(EACCES|ENOENT)$/)
        const second = await other()
        assert.equal(JSON.stringify(await second('environment')).includes('of-the-second'), true)
        assert.doesNotMatch(JSON.stringify(await use('processes', { what: 'environ' })), /of-the-second/)
        const { home } = (await second('whoami')) as unknown as { home: string }
        assert.equal(await second('write', { path: join(home, 'x') }), 'done')
        if (how === 'user') assert.match(await use('list', { path: home }), /^(EACCES|ENOENT)$/)
        else assert.doesNotMatch(JSON.stringify(await use('list', { path: home })), /"x"/)
        assert.equal(given.of('server.started')[0]?.data?.isolation, how)
      })
    })

    test(`R55: under ${how} two people who use one server do not see each other's either`, { skip: missing(how) }, async () => {
      const given = poolFixture({ secrets: {} })
      try {
        const [a, b] = ['agt_a', 'agt_b'].map((who) => given.session({ who, spec: { isolation: how, env: { SHARED: 'both' } } })) as [
          TestSession,
          TestSession,
        ]
        await a.hello()
        await b.hello()
        const seenOf = (await b.tool('processes', { what: 'environ' })) as string[]
        // In bubblewrap the first process of its own namespace is bubblewrap itself.
        assert.equal(seenOf.filter((environ) => environ.includes('SHARED=both')).length, how === 'user' ? 0 : 1)
        const { home } = (await a.tool('whoami')) as { home: string }
        await a.tool('write', { path: join(home, 'x') })
        const seen = await b.tool('list', { path: home })
        assert.ok(how === 'user' ? seen === 'EACCES' : !seen.includes('x'), String(seen))
      } finally {
        await given.close()
      }
    })
  }

  test('with isolation: none it sees them, which is recorded: what is tested above can fail', async () => {
    await steal('none', {}, async (given, use, other) => {
      assert.equal(await use('read', { path: join(given.dataDir, 'keys', 'root') }), 'the root key')
      const second = await other()
      assert.match(JSON.stringify(await use('processes', { what: 'environ' })), /of-the-second/)
      const { home } = (await second('whoami')) as unknown as { home: string }
      await second('write', { path: join(home, 'x') })
      assert.deepEqual(await use('list', { path: home }), ['x'])
      assert.equal(given.of('server.started')[0]?.data?.isolation, 'none')
    })
  })

  test('R89: its whole environment is what its document lists, PATH, and a HOME of its own', async () => {
    process.env.CHAPERONE_TEST_SECRET = 'must not be inherited'
    for (const how of usable) {
      await steal(how, {}, async (_, use) => {
        // bubblewrap says where it is.
        assert.deepEqual(
          Object.keys((await use('environment')) as unknown as object)
            .filter((name) => name !== 'PWD')
            .sort(),
          ['HOME', 'PATH', 'SECRET'],
          how,
        )
      })
    }
    delete process.env.CHAPERONE_TEST_SECRET
  })

  test('each has a folder of its own, which is gone when it is', { skip: missing('user') }, async () => {
    let cwd = ''
    await steal('user', {}, async (_, use) => {
      const who = (await use('whoami')) as unknown as { uid: number; cwd: string }
      cwd = who.cwd
      assert.notEqual(who.uid, process.getuid?.())
      assert.equal(await use('write', { path: join(cwd, 'x') }), 'done')
    })
    assert.equal(existsSync(cwd), false)
  })

  test('bubblewrap shows the folders that the document lists, to read or to write, and no process but its own', {
    skip: missing('bubblewrap'),
  }, async () => {
    const [shown, own, hidden] = ['shown', 'own', 'hidden'].map((name) => {
      mkdirSync(join(base, name))
      chmodSync(join(base, name), 0o755)
      writeFileSync(join(base, name, 'a'), name)
      chmodSync(join(base, name, 'a'), 0o644)
      return join(base, name)
    }) as [string, string, string]
    chmodSync(own, 0o777)
    await steal('bubblewrap', { read: [shown], write: [own] }, async (_, use) => {
      assert.equal(await use('read', { path: join(shown, 'a') }), 'shown')
      assert.match(await use('write', { path: join(shown, 'b') }), /^(EROFS|EACCES)$/)
      assert.equal(await use('write', { path: join(own, 'b') }), 'done')
      assert.equal(await use('read', { path: join(hidden, 'a') }), 'ENOENT')
      const commands = JSON.stringify(await use('processes', { what: 'cmdline' }))
      assert.equal(commands.includes('isolation.test'), false, commands)
    })
    assert.equal(readFileSync(join(own, 'b'), 'utf8'), 'mine')
  })

  test('`network: false` leaves no way to any port, not even of this machine', { skip: missing('bubblewrap') }, async () => {
    const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    try {
      await steal('bubblewrap', { network: false }, async (_, use) => assert.notEqual(await use('connect', { port }), 'connected'))
      await steal('bubblewrap', {}, async (_, use) => assert.equal(await use('connect', { port }), 'connected'))
    } finally {
      server.close()
    }
  })

  test('bubblewrap covers the data directory and the root key beside it, even inside a folder that is listed', {
    skip: missing('bubblewrap'),
  }, async () => {
    await steal('bubblewrap', { read: [tmpdir()] }, async (given, use) => {
      chmodSync(given.dataDir, 0o755)
      chmodSync(join(given.dataDir, 'keys'), 0o755)
      chmodSync(join(given.dataDir, 'keys', 'root'), 0o644)
      assert.match(await use('read', { path: join(given.dataDir, 'keys', 'root') }), /^(EACCES|ENOENT)$/)
      assert.deepEqual(await use('list', { path: given.dataDir }), [])
      assert.match(await use('read', { path: `${given.dataDir}.root-key` }), /^(EACCES)?$/)
    })
  })

  // As a Chaperone that is not root: the child has our own user id, so only bubblewrap stands between.
  const asOurselves = async (command: string[], more: { env?: Record<string, string>; read?: string[]; write?: string[] } = {}) => {
    const dataDir = mkdtempSync(join(base, 'data-'))
    writeFileSync(join(dataDir, 'store.sqlite'), 'the store')
    const { env = {}, ...folders } = more
    const spec = {
      isolation: 'bubblewrap' as const,
      read: [],
      write: [],
      network: true,
      ...folders,
      command: command.map((word) => word.replace('DATA', dataDir)),
    }
    const launch = await isolator({ dataDir, means: async () => ({ ...means, root: false }) }).prepare({ id: 'res_x', name: 'x' }, spec)
    try {
      const whole = {
        PATH: '/usr/bin:/bin',
        HOME: launch.home,
        ...Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value.replace('DATA', dataDir)])),
      }
      const started = environmentFor(launch, whole)
      const { stdout, stderr } = spawnSync(launch.file, started.args, { cwd: launch.cwd, env: started.env, encoding: 'utf8', timeout: 10_000 })
      return { said: stdout + stderr, there: readdirSync(dataDir) }
    } finally {
      launch.release()
    }
  }

  test('rule 5: a file of the data directory that the command names is not shown to it', { skip: missing('bubblewrap') }, async () => {
    await assert.rejects(asOurselves(['/bin/cat', 'DATA/store.sqlite']), /data directory/)
    assert.match((await asOurselves(['/bin/cat', '/etc/hosts'])).said, /localhost/)
  })

  test('rule 5: what the loader reads of its environment does nothing in the program that isolates it', { skip: missing('bubblewrap') }, async () => {
    // The loader of whoever has this in its environment writes a file there; what runs in the sandbox sees no such folder.
    const { there } = await asOurselves(['/bin/true'], { env: { LD_DEBUG: 'libs', LD_DEBUG_OUTPUT: 'DATA/loaded' } })
    assert.deepEqual(there, ['store.sqlite'])
    assert.match(
      (await asOurselves(['/usr/bin/env'], { env: { LD_DEBUG_OUTPUT: '/x', GLIBC_TUNABLES: 'a=b' } })).said,
      /LD_DEBUG_OUTPUT=\/x\n.*GLIBC_TUNABLES=a=b/s,
    )
  })

  test('nothing of its environment is lost to a server that setpriv starts', { skip: missing('user') }, async () => {
    await steal('user', { env: { LD_LIBRARY_PATH: '/opt/x', OTHER: 'y' } }, async (_, use) => {
      const environment = (await use('environment')) as unknown as Record<string, string>
      assert.deepEqual([environment.LD_LIBRARY_PATH, environment.OTHER], ['/opt/x', 'y'])
    })
  })

  test('neither the whole file system, nor /proc of the machine, nor our own program is given to it', { skip: missing('bubblewrap') }, async () => {
    for (const folder of ['/', '/proc', '/proc/1']) await assert.rejects(asOurselves(['/bin/true'], { read: [folder] }), /other programs/, folder)
    for (const folder of [import.meta.dirname, join(process.execPath, '..')])
      await assert.rejects(asOurselves(['/bin/true'], { write: [folder] }), /program of Chaperone/, folder)
  })

  test('rule 11: what it writes to memory that is no memory of a process has an end', {
    skip: missing('bubblewrap') || (means.sized ? false : 'this bubblewrap knows no sizes'),
  }, async () => {
    const { said } = await asOurselves([
      '/bin/sh',
      '-c',
      'df -k /tmp /dev/shm; echo x > /x; echo x > /dev/x; echo x > /tmp/x && echo x > /dev/null && echo fine',
    ])
    assert.match(said, / 1048576 .* 262144 /s)
    assert.match(said, /\/x: Read-only.*\/dev\/x: Read-only/s)
    assert.match(said, /fine/)
  })

  for (const how of ['user', 'bubblewrap'] as const) {
    test(`R86: under ${how} a daemon ends with its server, whatever it left`, { skip: missing(how) }, async () => {
      // By a number that no other process sleeps for: other tests have such daemons at the same time.
      const seconds = `${1_000 + randomInt(1_000_000)}.${process.pid}`
      await steal(how, {}, async (_, use) => {
        await use('daemon', { cwd: '/', seconds })
        await eventually(() => sleepers(seconds).length > 0, 'it runs')
      })
      assert.deepEqual(sleepers(seconds), [])
    })
  }
})

/** Process ids, as we see them, of the daemon of the fixture that sleeps for so long. */
const sleepers = (seconds: string) =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `sleep\0${seconds}\0`
    } catch {
      return false
    }
  })

describe('what cannot be isolated is not started', () => {
  const no = (error: string) => ({ works: false as const, error })
  const nothing: Means = { root: false, user: no('not root'), bubblewrap: no('not installed') }
  const spec = { command: [process.execPath], read: [], write: [], network: true }
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

  test('two servers never share a user; the processes of one do only in bubblewrap, where they see no other', {
    skip: !root && 'needs root',
  }, async () => {
    const works = { works: true as const, path: '/usr/bin/bwrap' }
    for (const [means, users] of [
      [{ ...nothing, root: true, user: works }, 4],
      [{ ...nothing, root: true, user: works, bubblewrap: works }, 3],
    ] as const) {
      const given = isolator({ dataDir: '/nowhere', means: async () => means })
      const prepare = () => Promise.all(['a', 'b', 'a', 'c'].map((id) => given.prepare({ id, name: id }, spec)))
      const first = await prepare()
      const uids = first.map((launch) => launch.uid)
      assert.equal(new Set(uids).size, users)
      for (const launch of first) launch.release()
      const again = await prepare()
      assert.deepEqual(
        again.map((launch) => launch.uid),
        uids,
        'a server that starts again can read what it wrote',
      )
      for (const launch of again) launch.release()
    }
  })

  test('where nothing can isolate a server, the refusal says what can be done there', async () => {
    const on = (platform: NodeJS.Platform, isolation?: 'none') =>
      isolator({ dataDir: '/nowhere', means: async () => nothing, platform }).prepare(
        { id: 'x', name: 'x' },
        { ...spec, ...(isolation ? { isolation } : {}) },
      )
    await assert.rejects(on('win32'), refused('isolation_unavailable', /on Windows.*on Linux only/s))
    await assert.rejects(on('win32', 'none'), refused('isolation_unavailable', /on Windows/))
    await assert.rejects(on('darwin'), refused('isolation_unavailable', /on macOS.*isolation: none/s))
    const launch = await on('darwin', 'none')
    launch.release()
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
