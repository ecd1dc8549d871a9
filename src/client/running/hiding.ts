import { existsSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { ChaperoneError } from '../../errors.ts'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'
import { alsoAt } from './mounts.ts'
import { OUR_PARTS, programFolders, real, SYSTEM } from './shown.ts'

export interface HideAsk {
  readonly network: 'chaperone' | 'open'
  /** absolute path */
  readonly program: string
  readonly cwd: string
  /** of the person */
  readonly home: string
  /** Chaperone's own: profiles, credential files, whatever speaks to the key store. Covered. */
  readonly hide: readonly string[]
  readonly read: readonly string[]
  readonly write: readonly string[]
}

/** Throws `isolation_unavailable` where something of Chaperone's own could not be kept from the program. */
export const assertHidden = (ask: HideAsk): void => void covers(ask)

/**
 * What lies over Chaperone's own files. Over a file that would not hold: it is replaced when it is renewed, and what lies over a
 * file is gone inside when another is renamed over it outside (measured: bubblewrap 0.8, Linux 6.18; rename(2) fails with EBUSY
 * only for who sees the cover). So its whole folder is covered, and must be one that can be. A folder that is itself taken away
 * outside and made anew is seen, too: nothing of ours does that.
 */
export function covers(ask: HideAsk): string[] {
  const { network, cwd, home, write, read } = ask
  if (network === 'chaperone') for (const folder of [cwd, ...write]) refuseWide(folder, home)
  const needed = [cwd, ...write, ...read, ...programFolders(ask.program), ...(network === 'open' ? [home] : [])].map(real)
  const writable = network === 'open' ? [] : [cwd, ...write].map(real)
  const shown = network === 'open' ? ['/'] : [...needed, ...SYSTEM.map(real), ...OUR_PARTS.map(real)]
  return ask.hide.flatMap((path) => {
    const kind = existsSync(path) ? statSync(path) : undefined
    // A socket is not renewed, and its folder has those of others in it.
    if (kind && !kind.isDirectory() && !kind.isFile())
      return shown.some((folder) => isIn(real(path), folder)) ? ['--ro-bind', '/dev/null', real(path)] : []
    const folders = kind?.isDirectory() ? [real(path)] : [...new Set([real(dirname(resolve(path))), dirname(real(path))])]
    // A home that is mounted twice shows them a second time.
    return folders
      .flatMap((folder) => [folder, ...(existsSync(folder) ? alsoAt(folder) : [])])
      .flatMap((folder) => {
        const visible =
          shown.some((one) => isIn(real(path), one) || isIn(folder, one)) || (kind?.isDirectory() && needed.some((one) => isIn(one, folder)))
        if (!visible) return []
        const around = writable.find((one) => isIn(folder, one))
        if (around !== undefined) throw exposed(path, `it lies in ${around}, which the program may write to`)
        const inside = needed.find((one) => isIn(one, folder))
        if (inside !== undefined) throw exposed(path, `it lies in ${folder}, and so does ${inside}, which the program needs`)
        if (MACHINE.includes(folder)) throw exposed(path, `it lies in ${folder}, which every program needs`)
        if (!existsSync(folder)) return []
        return statSync(folder).isDirectory() ? ['--tmpfs', folder] : ['--ro-bind', '/dev/null', folder]
      })
  })
}

/** Folders that cannot be covered. */
const MACHINE = ['/', '/dev', '/etc', '/home', '/proc', '/root', '/run', '/sys', '/tmp', '/var', '/var/lib', '/var/run', '/var/tmp', ...SYSTEM]

const exposed = (path: string, why: string) =>
  new ChaperoneError('isolation_unavailable', `The program could read ${path}: ${why}.`, {
    fix: `Give it a folder of its own elsewhere, for example: mkdir -m 700 /etc/chaperone-agent && mv ${path} /etc/chaperone-agent/`,
  })

/** A home folder has the keys of its person in it, and the whole file system has everybody's. */
function refuseWide(folder: string, home: string): void {
  if (!isIn(real(home), real(folder))) return
  throw new ChaperoneError('isolation_unavailable', `${folder} holds the home folder, with keys that the program must not see.`, {
    fix: 'Start it in the folder that it is to work in, or say --network open, or --isolation none.',
  })
}
