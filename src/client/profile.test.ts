import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { listenerOf, openProfiles, type Profile, profileHome, readProfile, splitAddress } from './profile.ts'

const profile = (address: string): Profile => ({
  v: 1,
  address,
  trustDomain: 'test',
  identity: { id: 'usr_1', name: 'boris', kind: 'user' },
  session: 'ses_1',
  key: 'PRIVATE',
  certificate: 'CERT',
  notAfter: 1,
  sessionUntil: 2,
  bundles: { trustDomain: 'test', identity: 'I', server: 'S' },
  listeners: { data: ':7443', web: 'web.example:7444', postgres: ':7432' },
})

const home = async (t: TestContext) => {
  const folder = await mkdtemp(join(tmpdir(), 'profiles '))
  t.after(() => rm(folder, { recursive: true }))
  return join(folder, 'chaperone')
}

test('the first server signed in to is the one that is used, until another is chosen', async (t) => {
  const profiles = openProfiles(await home(t))
  await assert.rejects(profiles.load(), { code: 'unauthenticated' })
  await profiles.save(profile('a.example:7443'))
  await profiles.save(profile('[::1]:7443'))
  assert.equal((await profiles.load()).address, 'a.example:7443')
  await profiles.save(profile('[::1]:7443'), { use: true })
  assert.equal((await profiles.load()).address, '[::1]:7443')
  assert.equal((await profiles.load('a.example:7443')).address, 'a.example:7443')
  assert.equal((await profiles.list()).length, 2)
  await profiles.remove('[::1]:7443')
  await assert.rejects(profiles.load(), { code: 'unauthenticated' })
})

test('rule 5: what is kept can be read by its owner only, and a file that others can read is refused', async (t) => {
  const profiles = openProfiles(await home(t))
  await profiles.save(profile('a.example:7443'))
  const folder = join(profiles.home, 'profiles')
  const [name] = await readdir(folder)
  const file = join(folder, name!)
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.equal((await stat(folder)).mode & 0o777, 0o700)
  await chmod(file, 0o640)
  await assert.rejects(profiles.load(), { code: 'credential_invalid', message: /can be read by other users/ })
})

test('nothing is left beside the file, and a broken file is named as such', async (t) => {
  const profiles = openProfiles(await home(t))
  await Promise.all(Array.from({ length: 8 }, () => profiles.save(profile('a.example:7443'))))
  const folder = join(profiles.home, 'profiles')
  assert.deepEqual(await readdir(folder), ['a.example_7443.json'])
  await writeFile(join(folder, 'a.example_7443.json'), '{"v":2}')
  await assert.rejects(readProfile(join(folder, 'a.example_7443.json')), { code: 'credential_invalid' })
})

test('an address cannot name a file elsewhere', async (t) => {
  const profiles = openProfiles(await home(t))
  await profiles.save(profile('../../evil:1'))
  assert.deepEqual(await readdir(join(profiles.home, 'profiles')), ['.._.._evil_1.json'])
})

test('each platform has its own folder, and CHAPERONE_HOME wins', () => {
  assert.equal(profileHome({ CHAPERONE_HOME: '/x' }, 'linux', '/home/b'), '/x')
  assert.equal(profileHome({ XDG_CONFIG_HOME: '/c' }, 'linux', '/home/b'), '/c/chaperone')
  assert.equal(profileHome({}, 'linux', '/home/b'), '/home/b/.config/chaperone')
  assert.equal(profileHome({}, 'darwin', '/Users/b'), '/Users/b/Library/Application Support/chaperone')
})

test('a listener without a host is on the host that is already used', () => {
  assert.deepEqual(listenerOf(profile('[::1]:7443'), 'postgres'), { host: '::1', port: 7432 })
  assert.deepEqual(listenerOf(profile('a.example:7443'), 'web'), { host: 'web.example', port: 7444 })
  assert.throws(() => splitAddress('a.example'), { code: 'usage' })
  assert.throws(() => splitAddress('a@b:1'), { code: 'usage' })
  assert.throws(() => splitAddress('a:70000'), { code: 'usage' })
})
