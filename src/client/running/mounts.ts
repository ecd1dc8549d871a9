import { readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { isIn } from '../../gateways/mcp/stdio/isolation-paths.ts'

export interface Mount {
  /** `major:minor` of the file system: the same wherever it is mounted */
  readonly device: string
  /** the folder of that file system that is seen here */
  readonly root: string
  readonly point: string
}

/** proc(5): `36 35 98:0 /root /point rw,noatime ...`; blanks and the like are written in octal. */
export const readMounts = (text: string): readonly Mount[] =>
  text.split('\n').flatMap((line) => {
    const [, , device, root, point] = line.split(' ')
    const plain = (path: string) =>
      Buffer.from(
        path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
        'latin1',
      ).toString()
    return device === undefined || root === undefined || point === undefined ? [] : [{ device, root: plain(root), point: plain(point) }]
  })

/** Where else this folder, or something in it, is seen because its file system is mounted more than once (bind mounts, a home that is mounted twice). */
export function elsewhereOf(folder: string, mounts: readonly Mount[]): readonly string[] {
  // Of two at one point the later lies over the other.
  const own = mounts.findLast(
    (mount) => isIn(folder, mount.point) && !mounts.some((one) => isIn(folder, one.point) && one.point.length > mount.point.length),
  )
  if (!own) return []
  const inside = join(own.root, relative(own.point, folder))
  return mounts.flatMap(({ device, root, point }) => {
    if (device !== own.device) return []
    if (isIn(root, inside)) return point === folder || isIn(point, folder) ? [] : [point]
    if (!isIn(inside, root)) return []
    const path = join(point, relative(root, inside))
    return path === folder ? [] : [path]
  })
}

/** The same on this machine, without what something else lies over. */
export function alsoAt(folder: string): readonly string[] {
  let mounts: readonly Mount[]
  try {
    // Bytes that are no UTF-8 are kept as they are.
    mounts = readMounts(readFileSync('/proc/self/mountinfo', 'latin1'))
  } catch {
    // Not on Linux: then nothing is isolated either.
    return []
  }
  const own = statSync(folder, { throwIfNoEntry: false })
  return elsewhereOf(folder, mounts).filter((path) => {
    const there = statSync(path, { throwIfNoEntry: false })
    // A mount of a part of it is another folder on the same device.
    return there !== undefined && there.dev === own?.dev && (there.ino === own.ino || mounts.some(({ point }) => point === path))
  })
}
