import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { programRunner } from '../../src/client/key-stores/program.ts'
import { secretService } from '../../src/client/key-stores/secret-service.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { type Desktop, desktop, noDesktop } from '../parts/desktop.ts'
import { type House, house } from '../parts/house.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

/** `chaperone ...` at a terminal of this desktop; whatever all processes of the machine had as arguments meanwhile. */
function chaperone(
  { env, as }: Desktop,
  args: readonly string[],
  { more = {}, onText }: { more?: NodeJS.ProcessEnv; onText?: (text: string) => void } = {},
) {
  const child = spawn(process.execPath, [bin, ...args], { ...as, env: { ...env, NO_COLOR: '1', ...more }, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      text += chunk
      onText?.(text)
    })
  return new Promise<{ status: number | null; text: string }>((done, fail) => {
    child.once('error', fail)
    child.once('close', (status) => done({ status, text }))
  })
}

/** Signs in by a code that dana says yes to. */
async function login({ server, dana }: House, at: Desktop, more: NodeJS.ProcessEnv = {}) {
  const { browsers, devices, places } = server.parts
  const { secret } = await browsers.begin((await findIdentity(server.parts.store.db, { id: dana.profile.identity.id }))!)
  const { session } = await browsers.open(secret)
  let said = false
  return chaperone(at, ['login', '--device', places.line!], {
    more,
    onText(text) {
      const code = /^ {2}([A-Z]{4}-[A-Z]{4})$/m.exec(text)?.[1]
      if (code === undefined || said) return
      said = true
      void devices.look(session, code).then(({ id }) => devices.decide(session, id, 'yes', 'totp'))
    },
  })
}

async function files(folder: string): Promise<readonly string[]> {
  const all = await readdir(folder, { recursive: true, withFileTypes: true })
  return all.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name))
}

const USERS = process.getuid?.() === 0 ? ([{ ordinary: false }, { ordinary: true }] as const) : ([{ ordinary: false }] as const)

for (const { ordinary } of USERS)
  describe(`a real Secret Service, ${ordinary ? 'as an ordinary user' : 'as whoever runs this'}`, { skip: noDesktop }, () => {
    test('rule 5: the key of who signs in is there, in no file and in no arguments; and what has become of it is said', async (t) => {
      const home = await house(t)
      const at = await desktop(t, { ordinary })
      const address = home.dana.profile.address
      const done = await login(home, at)
      assert.deepEqual(done.status, 0, done.text)
      const file = (await files(join(at.home, '.config', 'chaperone', 'profiles')))[0]!
      assert.deepEqual(JSON.parse(await readFile(file, 'utf8')).keptKey, { in: 'secret-service' }, done.text)
      const { stdout: key } = await at.tool('lookup', 'service', 'chaperone', 'server', address)
      assert.ok(key.length > 100)
      const raw = Buffer.from(key, 'base64url')
      for (const one of await files(at.home)) {
        const bytes = await readFile(one)
        assert.ok(!bytes.includes(key) && !bytes.includes(raw) && !bytes.includes('PRIVATE KEY'), one)
      }
      const lines = await at.commandLines()
      assert.match(lines, /store\0--label=Chaperone/)
      assert.ok(!lines.includes(key))

      // Every command is a process of its own: it finds the key again.
      const found = await chaperone(at, ['whoami'])
      assert.deepEqual([found.status, /dana/.test(found.text)], [0, true], found.text)

      await at.lock()
      const locked = await chaperone(at, ['whoami'])
      assert.match(locked.text, /is locked, and was not unlocked/)
      assert.match(locked.text, /CHAPERONE_KEY_STORE=file/)
      assert.notEqual(locked.status, 0)

      // The rest without a start of the program each: the same store, and libsecret itself.
      const store = secretService(programRunner({ ...at.as, env: at.env }))
      const get = () => store.get(address, { in: 'secret-service' })
      await at.kill()
      await assert.rejects(get(), { code: 'unavailable_here', message: /is locked/ }, 'the bus starts another one, and nobody has logged in to that')
      await at.start()
      assert.match(await get(), /PRIVATE KEY/)
      const busless = secretService(programRunner({ ...at.as, env: { ...at.env, DBUS_SESSION_BUS_ADDRESS: '' } }))
      await assert.rejects(busless.get(address, { in: 'secret-service' }), { code: 'unavailable_here', message: /does not answer/ })
      await at.tool('clear', 'service', 'chaperone', 'server', address)
      await assert.rejects(get(), { code: 'credential_invalid', message: /not in the key store of this machine any more/ })
    })
  })

test('a keyring that nobody unlocks keeps nobody from signing in, unless it was asked for by name', { skip: noDesktop }, async (t) => {
  const home = await house(t)
  const at = await desktop(t)
  await at.lock()
  const insisted = await login(home, at, { CHAPERONE_KEY_STORE: 'secret-service' })
  assert.match(insisted.text, /is locked, and was not unlocked/)
  const done = await login(home, at)
  assert.equal(done.status, 0, done.text)
  assert.match(done.text, /Your key is in an encrypted file instead: .* is locked, and was not unlocked\./)
  assert.equal((await chaperone(at, ['whoami'])).status, 0)
  assert.match(await openProfiles(join(at.home, '.config', 'chaperone')).keyIs(home.dana.profile.address), /in the profile, encrypted/)
  for (const one of await files(at.home)) assert.ok(!(await readFile(one)).includes('PRIVATE KEY'), one)
})
