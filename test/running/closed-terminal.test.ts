import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { rigOfFile, start } from './rig.ts'

const rig = rigOfFile()

test('a reader of what a run says that goes away (a pager, a log that is turned over) does not end the run', async (t) => {
  const script = 'echo ready; until test -e go; do sleep 0.05; done; echo done >done; exit 7'
  const args = ['agent', 'run', '--as', 'first', '--isolation', 'none', '--join', await rig.token('first'), '--daemon', '--', 'sh', '-c', script]
  const run = start(t, args, { home: join(rig.dir, 'nobody'), cwd: rig.work })
  await run.says(/ready/)
  run.child.stderr!.destroy()
  await writeFile(join(rig.work, 'go'), '')
  // It says that it starts the program again, to nobody; and does.
  await run.says(/ready\n[\s\S]*ready\n/)
  assert.ok(existsSync(join(rig.work, 'done')))
  assert.equal(run.child.exitCode, null)
  run.child.kill('SIGTERM')
  assert.equal(await run.ended, 0)
})
