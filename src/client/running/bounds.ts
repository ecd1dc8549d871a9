import { readFileSync } from 'node:fs'
import { release, totalmem } from 'node:os'

/** How much of this machine a program can use up that is not memory of its own, which the system counts, and ends it for. */

/**
 * What a file system in memory may hold: of the memory, and at the most. Without a size each takes half of the memory (tmpfs(5)),
 * and what is written there is nobody's memory: when it is full, the system ends others first.
 */
const SHARE = 8
const MOST_BYTES = 1024 ** 3

/** Bytes. `limit`: of the container or service that this process is in; 0 where it has none. */
export const usualSize = (total: number = totalmem(), limit: number = process.constrainedMemory()): number =>
  Math.min(MOST_BYTES, Math.floor((limit > 0 ? Math.min(limit, total) : total) / SHARE))

/** Of bubblewrap. `bytes` undefined: this one knows no sizes. */
export const inMemory = (path: string, bytes: number | undefined): string[] => [
  ...(bytes === undefined ? [] : ['--size', String(Math.max(bytes, PAGE))]),
  '--tmpfs',
  path,
]
/** A size of 0 would be none. */
const PAGE = 4096

/**
 * Processes and threads. They are counted for each user namespace since Linux 5.14; before that, for everything that this user has
 * running, and then such a limit would hit whoever comes last. Root has no such limit.
 */
const MOST_PROCESSES = 4096n

/**
 * No core files: they would hold the credential, on a disk. Not 0, because what is written through a pipe to a program is not held to
 * that; one byte switches off both (core(5), fs/coredump.c).
 */
const CORE = 1n

interface LimitsAsk {
  /** Inside of bubblewrap, where its processes are counted by themselves. */
  readonly fenced?: boolean
  /** a value that nobody else has; see mark.ts */
  readonly locks?: bigint
  readonly kernel?: string
  /** /proc/self/limits */
  readonly now?: string
}

/** Options of util-linux' prlimit for the program itself. Nothing is raised: that is not for everybody, and then it would not start. */
export function limits({ fenced = false, locks, kernel = release(), now = readOrNothing('/proc/self/limits') }: LimitsAsk): readonly string[] {
  const [major = 0, minor = 0] = kernel.split('.').map(Number)
  const hard = (title: string) => new RegExp(`^${title}\\s+\\S+\\s+(\\d+)`, 'm').exec(now)?.[1]
  const most = (title: string, wanted: bigint) => {
    const there = hard(title)
    return there === undefined || BigInt(there) > wanted ? wanted : BigInt(there)
  }
  const set = (name: string, value: bigint) => `--${name}=${value}:${value}`
  return [
    set('core', most('Max core file size', CORE)),
    ...(fenced && (major > 5 || (major === 5 && minor >= 14)) ? [set('nproc', most('Max processes', MOST_PROCESSES))] : []),
    ...(locks !== undefined && hard('Max file locks') === undefined ? [set('locks', locks)] : []),
  ]
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
