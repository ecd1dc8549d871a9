import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bringAlong, forget, offersOf, undo } from './bring.ts'
import { fill, SECRETS } from './computer.fixture.ts'
import { findServers } from './find.ts'
import { openJournals } from './journal.ts'
import { keptCatalog } from './kill.fixture.ts'

const child = fileURLToPath(new URL('./kill.fixture.ts', import.meta.url))

const run = (home: string, at = 0) =>
  new Promise<{ out: string; signal: NodeJS.Signals | undefined; err: string }>((done) => {
    execFile(process.execPath, [child, home, String(at)], (error, out, err) => done({ out, err, signal: error?.signal ?? undefined }))
  })

/** Every file below: path -> text. */
async function texts(home: string): Promise<ReadonlyMap<string, string>> {
  const all = await readdir(home, { recursive: true, withFileTypes: true })
  const found = new Map<string, string>()
  for (const one of all) {
    if (!one.isFile()) continue
    const path = join(one.parentPath, one.name)
    found.set(path.slice(home.length + 1), await readFile(path, 'utf8'))
  }
  return found
}

const SERVER = 'server.json'
const clients = (all: ReadonlyMap<string, string>) => new Map([...all].filter(([path]) => path !== SERVER && !path.startsWith('chaperone')))
/** Where a secret stands in clear on this computer. */
const places = (all: ReadonlyMap<string, string>, secret: string) =>
  [...all].filter(([path, text]) => path !== SERVER && text.includes(secret)).map(([path]) => path)

/** Does it where it is (journals name files by their whole path), and puts everything back. */
async function asIfNot(home: string, work: () => Promise<void>): Promise<void> {
  await cp(home, `${home}-kept`, { recursive: true })
  await work()
  await rm(home, { recursive: true })
  await rename(`${home}-kept`, home)
}

async function goOn(home: string) {
  const journals = openJournals(join(home, 'chaperone'))
  const { servers } = await findServers({ home, env: {}, platform: 'linux' }, [])
  const offers = offersOf(servers, { env: {}, exists: () => false })
  const catalog = keptCatalog(join(home, SERVER))
  return journals.alone(() => bringAlong(offers, { catalog, journals, way: { home: '/h' }, server: 'gw:7443' }))
}

test('killed before any of its steps: undone it is as before, run again it is as if nothing had happened, and no secret is lost or left about', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'killed-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const fresh = join(dir, 'fresh')
  await fill(fresh)
  const before = clients(await texts(fresh))
  const whole = join(dir, 'whole')
  await cp(fresh, whole, { recursive: true })
  const { out, err } = await run(whole)
  const steps = Number(out)
  assert.ok(steps > 20, err)
  const after = clients(await texts(whole))

  const trial = async (at: number) => {
    const home = join(dir, `at-${at}`)
    await cp(fresh, home, { recursive: true })
    const { signal, err } = await run(home, at)
    assert.equal(signal, 'SIGKILL', `step ${at}: ${err}`)
    const left = await texts(home)
    const vault = [...keptCatalog(join(home, SERVER)).vault.values()]
    for (const secret of SECRETS) assert.ok(places(left, secret).length > 0 || vault.some((value) => value.includes(secret)), `step ${at}: lost`)
    // Whole, however far it came: each can be read as what it is.
    assert.deepEqual((await findServers({ home, env: {}, platform: 'linux' }, [])).faults, [], `step ${at}`)
    for (const [path] of left) if (path !== SERVER) assert.equal((await stat(join(home, path))).mode & 0o077, 0, `step ${at}: ${path}`)

    const there = openJournals(join(home, 'chaperone'))
    await asIfNot(home, async () => {
      await there.alone(async () => {
        for (const journal of await there.list()) await undo(journal, there)
      })
      const back = await texts(home)
      assert.deepEqual(clients(back), before, `step ${at}: undone`)
      for (const secret of SECRETS) assert.deepEqual(places(back, secret), places(before, secret), `step ${at}: undone`)
    })

    const again = await goOn(home)
    assert.ok(
      again.brought.every(({ state }) => state === 'moved'),
      `step ${at}: ${JSON.stringify(again.brought)}`,
    )
    const [journal, ...others] = await there.list()
    assert.deepEqual(others, [], `step ${at}: one journal`)
    const finished = await texts(home)
    assert.deepEqual(clients(finished), after, `step ${at}: finished`)
    for (const secret of SECRETS) {
      assert.ok(
        [...keptCatalog(join(home, SERVER)).vault.values()].some((value) => value.includes(secret)),
        `step ${at}: in the vault`,
      )
      assert.ok(places(finished, secret).every((path) => path === join('chaperone', 'imports', `${journal?.id}.json`)))
    }
    if (!journal) return
    await asIfNot(home, async () => {
      await there.alone(() => undo(journal, there))
      assert.deepEqual(clients(await texts(home)), before, `step ${at}: finished, then undone`)
    })
    await there.alone(() => forget({ ...journal, state: 'done' }, there))
    const clean = await texts(home)
    for (const secret of SECRETS) assert.deepEqual(places(clean, secret), [], `step ${at}: forgotten`)
  }
  // Each is a process or two: all of them with npm run test:deep, here every third one, and the last.
  const every = process.env.CHAPERONE_DEEP ? 1 : 3
  const waiting = Array.from({ length: steps }, (_, i) => i + 1).filter((at) => at % every === steps % every)
  await Promise.all(
    [1, 2].map(async () => {
      for (let at = waiting.shift(); at !== undefined; at = waiting.shift()) await trial(at)
    }),
  )
})

test('two imports at once: one works, the other is told', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'killed-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  await fill(home)
  const journals = openJournals(join(home, 'chaperone'))
  await journals.alone(async () => {
    await assert.rejects(goOn(home), { code: 'conflict', message: /Another import is at work/ })
    const { signal, err } = await run(home)
    assert.equal(signal, undefined)
    assert.match(err, /Another import is at work/)
  })
  assert.ok((await goOn(home)).brought.every(({ state }) => state === 'moved'))
})
