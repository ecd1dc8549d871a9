import { spawn } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Packages that only some checks need (the conformance suite, other people's servers and clients: hundreds of megabytes)
 * are no devDependencies: a clone does not pay for them. They are installed at exact versions when a check wants them.
 */
const cache = fileURLToPath(new URL('../../node_modules/.cache/on-demand/', import.meta.url))

export class NotInstalled extends Error {}

export interface Installed {
  /** the folder that has its node_modules */
  readonly dir: string
  /** a file of the package */
  file(path: string): string
}

const INSTALL_MS = 180_000

/**
 * `spec` is `name@version`, exact. `scripts`: run the package's own install script (some bring their program that way).
 * Throws NotInstalled, with what npm said, where there is no registry.
 */
export async function onDemand(spec: string, options: { readonly scripts?: boolean; readonly timeoutMs?: number } = {}): Promise<Installed> {
  const name = spec.slice(0, spec.lastIndexOf('@'))
  const dir = join(cache, spec.replaceAll('/', '+'))
  const installed = { dir, file: (path: string) => join(dir, 'node_modules', name, path) }
  if (await exists(installed.file('package.json'))) return installed
  await mkdir(cache, { recursive: true })
  const making = await mkdtemp(join(cache, 'making-'))
  try {
    const allowed = options.scripts ? { allowScripts: { [name]: true } } : {}
    await writeFile(join(making, 'package.json'), JSON.stringify({ private: true, ...allowed }))
    const flags = ['--no-audit', '--no-fund', '--no-package-lock', `--ignore-scripts=${!options.scripts}`]
    await npm(['install', '--prefix', making, ...flags, spec], making, options.timeoutMs ?? INSTALL_MS)
    await rename(making, dir).catch(async (error: NodeJS.ErrnoException) => {
      // Somebody else was faster; theirs is the same.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
    return installed
  } catch (error) {
    throw new NotInstalled(`${spec} cannot be installed here: ${error instanceof Error ? error.message : String(error)}`)
  } finally {
    await rm(making, { recursive: true, force: true, maxRetries: 10 })
  }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

function npm(args: readonly string[], cwd: string, timeoutMs: number): Promise<void> {
  const cli = process.env.npm_execpath
  const viaNode = cli !== undefined && /npm-cli\.js$/.test(cli)
  const env: NodeJS.ProcessEnv = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}` }
  // npm refuses to install in a project with this in its environment.
  delete env.npm_config_allow_scripts
  const child = spawn(viaNode ? process.execPath : 'npm', viaNode ? [cli, ...args] : args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said = `${said}${chunk}`.slice(-2000)
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  return new Promise<void>((done, fail) => {
    child.once('error', fail)
    child.once('close', (code, signal) => {
      if (code === 0) return done()
      fail(new Error(signal === null ? said.trim().split('\n').slice(-3).join(' ') : `npm was not done after ${timeoutMs / 1000} s`))
    })
  }).finally(() => clearTimeout(timer))
}
