import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Profile } from '../profile.ts'
import { SVID_FILES, writeSvid } from './svid-files.ts'

const held = (n: number) => ({
  key: `key ${n}`,
  certificate: `certificate ${n}`,
  profile: { bundles: { trustDomain: 'x', identity: `identity ${n}`, server: `server ${n}` } } as Profile,
})

test('the credential stands as SPIFFE has it, for its user alone, and a renewal replaces all three at once', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-svid-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const folder = join(dir, 'svid')
  let whole = true
  for (let n = 1; n <= 20; n++) {
    let done = false
    const writing = writeSvid(folder, held(n)).finally(() => {
      done = true
    })
    // A reader resolves the link once, as a program that opens the folder does, and must find a pair.
    while (!done && n > 1) {
      const at = await realpath(join(folder, '..data'))
      const [certificate, key] = await Promise.all([
        readFile(join(at, SVID_FILES.certificate), 'utf8'),
        readFile(join(at, SVID_FILES.key), 'utf8'),
      ]).catch(() => ['certificate gone', 'key gone'])
      whole &&= certificate!.split(' ')[1] === key!.split(' ')[1]
    }
    await writing
  }
  assert.ok(whole, 'a key stood beside the certificate of another')
  assert.equal(await readFile(join(folder, SVID_FILES.certificate), 'utf8'), 'certificate 20')
  assert.equal(await readFile(join(folder, SVID_FILES.key), 'utf8'), 'key 20')
  assert.equal(await readFile(join(folder, SVID_FILES.bundle), 'utf8'), 'identity 20\nserver 20\n')
  assert.equal((await stat(folder)).mode & 0o777, 0o700)
  assert.equal((await stat(join(folder, SVID_FILES.key))).mode & 0o777, 0o600)
  assert.equal((await readdir(folder)).length, 5, 'of older ones nothing is left')
})
