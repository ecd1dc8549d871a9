import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { probeAbility } from '../../src/client/running/isolation.ts'
import { runningRig } from './rig.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
const ability = await probeAbility()
const has = (program: string) => {
  try {
    execFileSync('/bin/sh', ['-c', `command -v ${program}`])
    return true
  } catch {
    return false
  }
}

for (const flags of [...(ability.bwrap === undefined ? [] : [[]]), ['--isolation', 'none']])
  test(`at a terminal Ctrl-C reaches the program once, and not the runner, ${flags.length === 0 ? 'in bubblewrap' : 'without isolation'}`, {
    skip: !has('script') && 'script of util-linux is not installed',
  }, async (t) => {
    const rig = await runningRig(t)
    await writeFile(
      join(rig.work, 'program.cjs'),
      "let n = 0; process.on('SIGINT', () => { console.log('got', ++n); if (n === 2) setTimeout(() => process.exit(5), 100) }); setInterval(() => {}, 1000); console.log('ready')",
    )
    const line = ['exec', process.execPath, bin, 'run', ...flags, '--', 'node', 'program.cjs'].join(' ')
    const child = spawn('script', ['-qec', line, '/dev/null'], {
      cwd: rig.work,
      env: { PATH: process.env.PATH, HOME: rig.dir, CHAPERONE_HOME: rig.boris.home, SHELL: '/bin/sh', TERM: 'dumb' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    t.after(() => child.kill('SIGKILL'))
    // Not its exit: what it said before may be read after that.
    const ended = once(child, 'close')
    let out = ''
    const says = (pattern: RegExp) =>
      new Promise<void>((done, fail) => {
        child.once('close', (code) => fail(new Error(`it ended with ${code}: ${out}`)))
        const look = () => void (pattern.test(out) && done())
        child.stdout.on('data', look)
        look()
      })
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out += chunk
    })
    await says(/ready/)
    child.stdin.write('\u0003')
    await says(/got 1/)
    child.stdin.write('\u0003')
    await says(/got 2/)
    const [code] = await ended
    assert.equal(code, 5, out)
    assert.doesNotMatch(out, /got 3/)
  })
