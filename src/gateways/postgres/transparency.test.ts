import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { ANYTHING, type Rig, startRig } from './rig.fixture.ts'
import { assertSameLogin, assertTransparent, hashOfResult, SCRIPTS } from './transparency-suite.ts'

/** Debian's versions, where they are installed; `npm run test:postgres-versions` fetches 13 to 17. */
const debian = '/usr/lib/postgresql'
const installed = existsSync(debian) ? readdirSync(debian).filter((version) => existsSync(`${debian}/${version}/bin/initdb`)) : []

for (const version of [undefined, ...installed]) {
  const name = version === undefined ? 'PostgreSQL 18' : `PostgreSQL ${version}`
  test.describe(name, () => {
    let rig: Rig
    before(async () => {
      rig = await startRig({ roles: [ANYTHING], ...(version === undefined ? {} : { binaries: `${debian}/${version}` }) })
    })
    after(() => rig?.stop())

    test(`rule 10: ${name} says the same at login`, () => assertSameLogin(rig))
    for (const script of Object.keys(SCRIPTS))
      test(`rule 10: ${name}, directly and through Chaperone, answers with the same bytes: ${script}`, () => assertTransparent(rig, script))

    test(`rule 10: a result of 100 MB of ${name} flows through unchanged, and is not held`, async () => {
      const [direct, through] = [await rig.rawDirect('root'), await rig.raw('root')]
      const [before, after] = [await hashOfResult(direct, 100), await hashOfResult(through, 100)]
      assert.deepEqual([after.hash, after.bytes], [before.hash, before.bytes])
      assert.ok(after.bytes > 99_000_000)
      assert.ok(after.grown < 100_000_000, `${after.grown} bytes more than before`)
      direct.end()
      through.end()
    })
  })
}
