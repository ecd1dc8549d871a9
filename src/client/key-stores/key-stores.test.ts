import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { makeKeyPair } from '../key-pair.ts'
import { openProfiles, type Profile, readProfile } from '../profile.ts'
import { keyStores } from './choose.ts'
import { keychain } from './keychain.ts'
import { type RunProgram, runProgram } from './program.ts'
import { sealedFile } from './sealed-file.ts'
import { secretService } from './secret-service.ts'

const ADDRESS = 'gate.example:7443'
const { key } = makeKeyPair()

const profile = (kind: 'user' | 'agent', more: Partial<Profile> = {}): Profile => ({
  v: 1,
  address: ADDRESS,
  trustDomain: 'test',
  identity: { id: 'x', name: 'boris', kind },
  session: 'ses_1',
  key,
  certificate: 'CERT',
  notAfter: 1,
  sessionUntil: 2,
  bundles: { trustDomain: 'test', identity: 'I', server: 'S' },
  listeners: { data: '', web: '', postgres: '' },
  ...more,
})

const folder = async (t: TestContext) => {
  const dir = await mkdtemp(join(tmpdir(), 'keys-'))
  t.after(() => rm(dir, { recursive: true }))
  return dir
}

/** Both programs as they behave: what they are told stands here, and every argument they were given. */
function fakePrograms() {
  const kept = new Map<string, string>()
  const args: string[] = []
  let broken = false
  const run: RunProgram = async (program, given, input) => {
    args.push(program, ...given)
    if (broken) return { status: 1, stdout: '', stderr: '' }
    if (program === 'secret-tool') {
      const of = given.slice(-4).join(' ')
      if (given[0] === 'store') kept.set(of, input)
      if (given[0] === 'clear') kept.delete(of)
      if (given[0] === 'lookup') return kept.has(of) ? { status: 0, stdout: kept.get(of)!, stderr: '' } : { status: 1, stdout: '', stderr: '' }
      return { status: 0, stdout: '', stderr: '' }
    }
    if (given[0] === '-i') {
      const [, account, hex] = /^add-generic-password -U -a "([^"]+)" -s "chaperone" -l "[^"]+" -X ([0-9a-f]+)\n$/.exec(input) ?? []
      if (account === undefined) return { status: 1, stdout: '', stderr: '' }
      kept.set(account, Buffer.from(hex!, 'hex').toString())
      return { status: 0, stdout: '', stderr: '' }
    }
    const account = given[2]!
    if (given[0] === 'delete-generic-password') kept.delete(account)
    return kept.has(account) ? { status: 0, stdout: `${kept.get(account)}\n`, stderr: '' } : { status: 44, stdout: '', stderr: '' }
  }
  return {
    run,
    kept,
    args,
    break: () => {
      broken = true
    },
  }
}

for (const make of [secretService, keychain]) {
  test(`rule 5: ${make.name} is told the key on its standard input, never in its arguments`, async () => {
    const { run, args, kept } = fakePrograms()
    const store = make(run)
    const put = await store.put(ADDRESS, key)
    assert.deepEqual(put, { in: store.place })
    assert.equal(await store.get(ADDRESS, put), key)
    const [text] = [...kept.values()]
    assert.ok(!args.some((one) => one.includes(text!) || one.includes('PRIVATE') || one.includes(Buffer.from(text!).toString('hex'))))
    await assert.rejects(store.get('other.example:7443', put), { code: 'credential_invalid' })
    await store.remove(ADDRESS)
    await assert.rejects(store.get(ADDRESS, put), { code: 'credential_invalid' })
    await assert.rejects(store.put('a"b:1', key), { code: 'usage' })
  })
}

test('rule 5: in a file the key is encrypted, bound to its address, and its wrapping key is for its owner alone', async (t) => {
  const dir = await folder(t)
  const store = sealedFile(join(dir, 'wrapping-key'))
  const kept = await store.put(ADDRESS, key)
  assert.doesNotMatch(JSON.stringify(kept), /PRIVATE/)
  assert.equal((await stat(join(dir, 'wrapping-key'))).mode & 0o777, 0o600)
  assert.equal(await store.get(ADDRESS, kept), key)
  await assert.rejects(store.get('other.example:7443', kept), { code: 'credential_invalid' })
  const bytes = Buffer.from(kept.sealed!, 'base64url')
  bytes[40]! ^= 1
  await assert.rejects(store.get(ADDRESS, { in: 'file', sealed: bytes.toString('base64url') }), { code: 'credential_invalid' })
  await rm(join(dir, 'wrapping-key'))
  await assert.rejects(store.get(ADDRESS, kept), { code: 'credential_invalid' })
})

test("rule 5: a person's profile holds no key, an agent's holds its own, and both are read as before", async (t) => {
  const dir = await folder(t)
  const profiles = openProfiles(dir)
  await profiles.save(profile('user'))
  const file = profiles.file(ADDRESS)
  assert.doesNotMatch(await readFile(file, 'utf8'), /PRIVATE KEY/)
  assert.deepEqual(await profiles.load(), profile('user'))
  assert.deepEqual(await readProfile(file), profile('user'))
  assert.match(await profiles.keyIs(ADDRESS), /encrypted/)
  await profiles.save(profile('agent'))
  assert.match(await readFile(file, 'utf8'), /PRIVATE KEY/)
  assert.deepEqual(await profiles.load(), profile('agent'))
})

test('a profile of before is moved when it is used', async (t) => {
  const dir = await folder(t)
  const { run, kept } = fakePrograms()
  const profiles = openProfiles(dir, [secretService(run), sealedFile(join(dir, 'w'))])
  await profiles.save(profile('agent'))
  const file = profiles.file(ADDRESS)
  await writeFile(file, JSON.stringify(profile('user')))
  await chmod(file, 0o600)
  assert.deepEqual(await profiles.load(), profile('user'))
  assert.equal(kept.size, 1)
  assert.doesNotMatch(await readFile(file, 'utf8'), /PRIVATE KEY/)
  assert.deepEqual(await profiles.load(), profile('user'))
  await profiles.remove(ADDRESS)
  assert.equal(kept.size, 0)
  assert.deepEqual(await readdir(join(dir, 'profiles')), [])
})

test('a key store that does not answer keeps nobody from signing in: the key is encrypted in a file then', async (t) => {
  const dir = await folder(t)
  const programs = fakePrograms()
  programs.break()
  const profiles = openProfiles(dir, [secretService(programs.run), sealedFile(join(dir, 'w'))])
  await profiles.save(profile('user'))
  assert.match(await readFile(profiles.file(ADDRESS), 'utf8'), /"in": "file"/)
  assert.equal((await profiles.load()).key, key)
})

test('the key store of the desktop is used where there is one, and never in a home that was named', () => {
  const first = (named: boolean, env: NodeJS.ProcessEnv, platform: NodeJS.Platform, there: readonly string[]) =>
    keyStores('/home/b', named, { env, platform, has: (path) => there.includes(path) })[0]!.place
  const desktop = { PATH: '/usr/bin', DBUS_SESSION_BUS_ADDRESS: 'unix:path=/run/bus' }
  assert.equal(first(false, desktop, 'linux', ['/usr/bin/secret-tool']), 'secret-service')
  assert.equal(first(true, desktop, 'linux', ['/usr/bin/secret-tool']), 'file')
  assert.equal(first(false, { PATH: '/usr/bin' }, 'linux', ['/usr/bin/secret-tool']), 'file', 'no desktop')
  assert.equal(first(false, desktop, 'linux', []), 'file')
  assert.equal(first(false, {}, 'darwin', ['/usr/bin/security']), 'keychain')
  assert.equal(first(false, { ...desktop, CHAPERONE_KEY_STORE: 'file' }, 'linux', ['/usr/bin/secret-tool']), 'file')
  assert.throws(() => first(false, { CHAPERONE_KEY_STORE: 'x' }, 'linux', []), { code: 'usage' })
})

test('a program is given its input, and its status is told', async () => {
  assert.deepEqual(await runProgram(process.execPath, ['-e', 'process.stdin.pipe(process.stdout)'], 'text'), {
    status: 0,
    stdout: 'text',
    stderr: '',
  })
  assert.equal((await runProgram(process.execPath, ['-e', 'process.exit(3)'], 'text')).status, 3)
  await assert.rejects(runProgram('/nothing/here', [], ''))
})
