import { closeSync, existsSync, openSync, readSync, realpathSync } from 'node:fs'
import { basename, delimiter, dirname, isAbsolute, join, resolve } from 'node:path'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'

/** What of this machine a program is shown that sees only what it needs. */

/** What programs need of /etc; not /etc itself, which holds keys and configuration of others. */
const ETC = [
  ...['ssl', 'ca-certificates', 'pki', 'resolv.conf', 'hosts', 'nsswitch.conf', 'passwd', 'group', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d'],
  ...['alternatives', 'localtime', 'gai.conf', 'protocols', 'services', 'host.conf', 'terminfo', 'bash.bashrc', 'profile', 'inputrc', 'mime.types'],
]
export const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/opt', '/nix', ...ETC.map((name) => `/etc/${name}`)]

/** This package: the child starts `chaperone mcp connect` and `chaperone requests ask` from it. Not its folder, which in a checkout may hold anything. */
const OURS = resolve(import.meta.dirname, '..', '..', '..')
export const OUR_PARTS = ['bin', 'src', 'dist', 'node_modules', 'package.json'].map((name) => join(OURS, name))

export const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path))

/** The program as it was named and as it is, with the modules that its own installation brings (a Node in a home folder, say), and what runs it. */
export function programFolders(program: string): string[] {
  const runner = interpreterOf(program)
  return [...installation(program), ...(runner === undefined ? [] : installation(runner))]
}

/** What stands behind `#!`: a script of npm or pip needs the very Node or Python that it was installed with, and not the one of the system. */
function interpreterOf(program: string): string | undefined {
  const [, path = '', name] = /^#!\s*(\S+)(?:[ \t]+(?:-S[ \t]+)?([^\s=]+))?/.exec(firstBytes(program)) ?? []
  const found = basename(path) === 'env' ? name && findOnPath(name) : path
  return found && isAbsolute(found) && existsSync(found) && !SYSTEM.some((folder) => isIn(found, folder)) ? found : undefined
}

const findOnPath = (name: string) =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path))

function firstBytes(path: string): string {
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    const bytes = Buffer.alloc(256)
    return bytes.toString('latin1', 0, readSync(file, bytes))
  } catch {
    // It is not there, or may be run and not read: then it is no script.
    return ''
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

function installation(program: string): string[] {
  const is = real(program)
  const at = is.indexOf('/node_modules/')
  const modules = join(dirname(dirname(is)), 'lib', 'node_modules')
  return [program, at >= 0 ? `${is.slice(0, at)}/node_modules` : is, ...(existsSync(modules) ? [modules] : [])]
}
