import { constants, existsSync, realpathSync, statSync } from 'node:fs'
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path'
import { ChaperoneError } from '../../../errors.ts'

/** A folder inside the data directory would show the child our keys (rule 5). One above it is fine: the data directory is covered. */
export function refuseOurs(folder: string, hidden: readonly string[], server: string): void {
  if (!isAbsolute(folder) || !existsSync(folder)) {
    throw new ChaperoneError('upstream_unavailable', `A folder of the MCP server ${server} does not exist.`, {
      detail: folder,
      fix: 'Write absolute paths of folders that exist under `read` and `write`.',
    })
  }
  if (hidden.some((ours) => isIn(real(folder), ours))) {
    throw new ChaperoneError('isolation_unavailable', `The MCP server ${server} may not be given anything of Chaperone's own data directory.`, {
      detail: folder,
      fix: 'Put it elsewhere.',
    })
  }
}

/** /proc of the machine shows what others run, and the whole file system has it in it, with the folders of other children. */
export function refuseWhole(folder: string, server: string): void {
  if (real(folder) !== '/' && !isIn(real(folder), '/proc')) return
  throw new ChaperoneError('isolation_unavailable', `The MCP server ${server} may not be given ${folder}: other programs can be seen there.`, {
    detail: folder,
    fix: 'List the folders that it needs under `read` and `write`.',
  })
}

/** Where Chaperone is no root, the child has its user id: it could write what Chaperone runs when it starts the next time. */
export function refuseProgram(folder: string, server: string): void {
  if (![OURS, real(process.execPath)].some((ours) => isIn(ours, real(folder)) || (ours === OURS && isIn(real(folder), ours)))) return
  throw new ChaperoneError('isolation_unavailable', `The MCP server ${server} may not write to the program of Chaperone itself.`, {
    detail: folder,
    fix: 'List a folder under `write` that holds neither Chaperone nor the Node that it runs by.',
  })
}

/** The folder of this package. */
const OURS = resolve(import.meta.dirname, '..', '..', '..')

export function refuseUnreadable(file: string, uid: number, server: string): void {
  const closed = closedTo(file, uid)
  if (closed === undefined) return
  throw new ChaperoneError('isolation_unavailable', `The MCP server ${server} runs as its own user, who cannot read its program.`, {
    detail: `${file}: ${closed} is closed to uid ${uid}`,
    fix: `Make ${closed} readable for others (chmod o+rX), or install the server elsewhere, for example under /opt.`,
  })
}

/** The first part of the path that this user cannot pass or read, by its mode; access lists can only be known by trying. */
function closedTo(file: string, uid: number): string | undefined {
  const allowed = (path: string, bit: number) => {
    const { mode, uid: owner, gid } = statSync(path)
    const shift = owner === uid ? 6 : gid === uid ? 3 : 0
    return ((mode >> shift) & bit) === bit
  }
  if (!allowed(file, constants.R_OK)) return file
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if (!allowed(folder, constants.X_OK)) return folder
    if (folder === dirname(folder)) return undefined
  }
}

export const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path))

export function isIn(path: string, folder: string): boolean {
  const way = relative(folder, path)
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way))
}
