import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { SummaryAsk } from '../../src/client/running/summary.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { apply } from '../parts/governed.ts'
import { runningRig, start } from './rig.ts'

/** The first run that there ever was here: nobody has listed a tool. */
async function first(t: TestContext, flags: readonly string[]) {
  const rig = await runningRig(t)
  await apply(rig.dana, `kind: mcp\nname: gone\nspec: { url: "http://127.0.0.1:${await freePort()}/mcp" }\n---\n${MORE}`)
  const run = start(t, ['agent', 'run', '--as', 'first', '--join', await rig.token('first'), ...flags, '--', 'true'], {
    home: join(rig.dir, 'nobody'),
    cwd: rig.work,
    env: { EDITOR: 'vi' },
  })
  assert.equal(await run.ended, 0, run.err())
  return run
}
const MORE = `kind: role
name: caller
spec:
  allow:
    - { mcp: fixture, can: any, tools: ["test_simple_*", greet] }
    - { mcp: gone, can: any }
`

test('the summary of the very first run has the tools that may be used, although nobody has listed them before', async (t) => {
  const run = await first(t, [])
  assert.match(run.err(), /fixture: [^\n]*greet/)
  assert.match(run.err(), /fixture: [^\n]*test_simple_text/)
  assert.doesNotMatch(run.err(), /test_error/, 'and only those')
  assert.match(run.err(), /gone: not known yet/)
  assert.match(run.err(), /what gone offers is not known: /)
})

test('with --json the summary is one line that a program reads', async (t) => {
  const run = await first(t, ['--json', '--env', 'NOT_SET_ANYWHERE'])
  const [line, ...more] = run.err().trim().split('\n')
  assert.deepEqual(more, [])
  const summary = JSON.parse(line!) as SummaryAsk
  assert.equal(summary.name, 'first')
  assert.deepEqual(summary.command, ['true'])
  assert.deepEqual(summary.unlisted, ['gone'])
  assert.ok(summary.abilities.servers.find(({ name }) => name === 'fixture')?.allowed.includes('greet'))
  assert.ok(summary.missing.some(({ text, fix }) => text === 'NOT_SET_ANYWHERE is not set' && fix !== ''))
  assert.ok(['bubblewrap', 'none'].includes(summary.fence.how))
})
