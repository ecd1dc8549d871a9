/**
 * node deploy/try-image.mjs [folder]
 *
 * Follows deploy/Containerfile without a container engine: each stage is a folder, COPY copies, RUN runs with the Node that
 * runs this. Then it starts what came of it, where bubblewrap is installed with everything read-only but the data
 * directory, asks the health check, and looks for what must not be in an image. Exit 0 when all of that is well.
 */
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('..', import.meta.url))
const given = process.argv[2]
const scratch = given === undefined ? mkdtempSync(join(tmpdir(), 'chaperone-image-')) : resolve(given)
const env = { PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}`, HOME: scratch }

const lines = readFileSync(join(repository, 'deploy/Containerfile'), 'utf8').replaceAll('\\\n', ' ').split('\n')
const stages = []
let config = {}
for (const line of lines) {
  const [, word = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
  const stage = stages.at(-1)
  if (word === 'FROM') {
    stages.push({ name: / AS (\S+)$/.exec(rest)?.[1], root: join(scratch, `stage${stages.length}`), at: '/' })
    config = {}
  } else if (word === 'WORKDIR') {
    stage.at = rest
    mkdirSync(join(stage.root, rest), { recursive: true })
  } else if (word === 'COPY') {
    const parts = rest.split(/\s+/)
    const from = parts[0].startsWith('--from=') ? stages.find(({ name }) => name === parts.shift().slice(7)).root : repository
    // Whose it is cannot be followed without being root.
    if (parts[0].startsWith('--chown=')) parts.shift()
    const to = parts.pop()
    for (const one of parts) {
      const source = join(from, one)
      const target = join(stage.root, resolve(stage.at, to))
      cpSync(source, statSync(source).isDirectory() ? target : join(target, one.split('/').at(-1)), { recursive: true, verbatimSymlinks: true })
    }
  } else if (word === 'RUN') {
    console.log(`RUN ${rest}`)
    const ran = spawnSync('/bin/sh', ['-c', rest], { cwd: join(stage.root, stage.at), env: { ...process.env, ...env }, encoding: 'utf8' })
    if (ran.status !== 0) fail(`RUN ${rest}: status ${ran.status}\n${ran.stdout}${ran.stderr}`)
  } else if (word !== '') config[word] = rest
}

const root = join(stages.at(-1).root, stages.at(-1).at)
if (config.USER === undefined || /^(root|0)\b/.test(config.USER)) fail('it would run as root')
for (const one of ['src', 'test', '.git', '.npmrc', 'node_modules/typescript', 'node_modules/@biomejs'])
  // npm prune leaves the empty folder of a scope.
  if (existsSync(join(root, one)) && !(statSync(join(root, one)).isDirectory() && readdirSync(join(root, one)).length === 0)) fail(`${one} is in the image`)
const keys = readdirSync(root, { recursive: true }).filter((one) => /(root-key|\.db|\.pem|\.env)$/.test(String(one)) && !String(one).includes('node_modules'))
if (keys.length > 0) fail(`these look like secrets or data: ${keys.join(', ')}`)

const state = mkdtempSync(join(scratch, 'state-'))
const ports = { listen: '127.0.0.1:0', 'web-listen': '127.0.0.1:0', 'postgres-listen': '127.0.0.1:0' }
const up = ['up', '--data-dir', join(state, 'data'), ...Object.entries(ports).flatMap(([flag, at]) => [`--${flag}`, at]), '--log-level', 'error']
const command = [process.execPath, join(root, 'bin/chaperone.js'), ...up]
const jailed = spawnSync('bwrap', ['--ro-bind', '/', '/', '--proc', '/proc', 'true']).status === 0
const jail = jailed ? ['bwrap', '--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp', '--ro-bind', scratch, scratch, '--bind', state, state, '--die-with-parent'] : []
// Node itself may lie below /tmp, which is empty in there.
if (jailed) jail.push('--ro-bind', dirname(dirname(process.execPath)), dirname(dirname(process.execPath)))
const [program, ...args] = [...jail, ...command]
const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'], cwd: '/' })
let said = ''
let stopped = false
const late = setTimeout(() => fail(`it did not start:\n${said}`), 60_000)
child.stdout.on('data', (chunk) => {
  said += chunk
  const web = /^ {2}web +(\S+)$/m.exec(said)?.[1]
  if (web === undefined || !said.includes('Leave this running')) return
  child.stdout.removeAllListeners('data')
  const asked = spawnSync(process.execPath, [join(root, 'healthcheck.mjs'), web], { env, stdio: 'inherit' })
  if (asked.status !== 0) fail('the health check says no')
  const wrong = spawnSync(process.execPath, [join(root, 'healthcheck.mjs'), '127.0.0.1:9'], { env, stdio: 'ignore' })
  if (wrong.status === 0) fail('the health check says yes to nothing')
  stopped = true
  // bubblewrap itself dies of it, and takes the server along; without it the server ends by itself.
  child.kill('SIGTERM')
})
child.once('close', (code) => {
  clearTimeout(late)
  if (!stopped || (!jailed && code !== 0)) fail(`it ended with ${code}\n${said}`)
  if (given === undefined) rmSync(scratch, { recursive: true, force: true })
  if (!process.exitCode) console.log(`ok: built, started ${jailed ? 'with a read-only root' : '(no bubblewrap: with an ordinary root)'}, healthy, and stopped`)
})

function fail(why) {
  console.error(`failed: ${why}`)
  process.exit(1)
}
