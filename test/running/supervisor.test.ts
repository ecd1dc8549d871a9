import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { rigOfFile, start } from './rig.ts'

const rig = rigOfFile()

/** A supervisor's socket: Node has none of that kind. */
const LISTENS = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True: print(s.recv(4096).decode().replace("\\n", " "), flush=True)`

const hasPython = () => {
  try {
    execFileSync('python3', ['-c', ''])
    return true
  } catch {
    return false
  }
}
const skip = (!existsSync('/usr/bin/systemd-notify') && 'systemd-notify is not installed') || (!hasPython() && 'python3 is not installed')

test('a supervisor is told once that a daemon is ready, and which process it is: when it has joined', { skip }, async (t) => {
  const socket = join(rig.dir, 'notify')
  const supervisor = spawn('python3', ['-c', LISTENS, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => supervisor.kill('SIGKILL'))
  const heard: string[] = []
  const lines = createInterface({ input: supervisor.stdout })
  await once(lines, 'line')
  lines.on('line', (line) => void heard.push(line))
  const args = ['agent', 'run', '--as', 'first', '--join', await rig.token('first'), '--daemon', '--isolation', 'none']
  const script = 'echo NOTIFY=$NOTIFY_SOCKET; test -e once && exec tail -f /dev/null; touch once'
  const run = start(t, [...args, '--', 'sh', '-c', script], { home: join(rig.dir, 'nobody'), cwd: rig.work, env: { NOTIFY_SOCKET: socket } })
  await once(lines, 'line')
  await run.says(/NOTIFY=\n[\s\S]*NOTIFY=\n/)
  run.child.kill('SIGTERM')
  assert.equal(await run.ended, 0, run.err())
  const [ready = '', ...again] = heard.filter((line) => line.includes('READY=1'))
  assert.deepEqual(again, [], 'not again when the program is started again')
  assert.match(ready, new RegExp(`MAINPID=${run.child.pid}\\b`))
})
