import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setImmediate as later } from 'node:timers/promises'
import type { Clock } from '../../../clock.ts'

/** By what the processes of one child are told from all others. */
export interface Mark {
  /** A user id that only this child has. */
  readonly uid?: number
  /** A folder that is its HOME or that it works in, and nobody else's. */
  readonly home?: string
  /** `NAME=value` in its environment. */
  readonly variable?: string
}

interface Process {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly uid: number
  readonly rss: number
}

/** Between two of these many reads others get their turn. */
const AT_ONCE = 64

/** Every process of this machine that we can see, zombies left out. Empty where there is no /proc. */
async function processes(): Promise<Process[]> {
  const found: Process[] = []
  let names: string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return found
  }
  let count = 0
  for (const name of names) {
    if (name.charCodeAt(0) > 57 || name.charCodeAt(0) < 48) continue
    if (++count % AT_ONCE === 0) await later()
    // /proc is read at once whoever asks: a promise for each of a thousand small files costs ten times as much.
    const status = attempt(() => readFileSync(`/proc/${name}/status`, 'latin1'))
    if (status === undefined || /^State:\s+[ZX]/m.test(status)) continue
    const number = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
    found.push({ pid: Number(name), parent: number('PPid'), group: number('NSpgid'), uid: number('Uid'), rss: number('VmRSS') * 1024 })
  }
  return found
}

/** A process that has just gone, or is not ours to look into, has nothing to say. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function isMarked({ pid, uid }: Process, mark: Mark): boolean {
  if (mark.uid !== undefined) return uid === mark.uid
  const { home } = mark
  const variable = mark.variable ?? (home === undefined ? undefined : `HOME=${home}`)
  if (variable === undefined) return false
  if (
    attempt(() => readFileSync(`/proc/${pid}/environ`, 'latin1'))
      ?.split('\0')
      .includes(variable)
  )
    return true
  if (home === undefined) return false
  const cwd = attempt(() => readlinkSync(`/proc/${pid}/cwd`))
  return cwd !== undefined && (cwd === home || cwd.startsWith(`${home}/`) || cwd === `${home} (deleted)`)
}

/** What belongs to a child: its process, all below it, its group, and what carries its mark although it left both. */
function kin(all: readonly Process[], mark: Mark, pid?: number): Process[] {
  const mine = new Set<number>(pid === undefined ? [] : [pid])
  for (const one of all) if ((pid !== undefined && one.group === pid) || isMarked(one, mark)) mine.add(one.pid)
  for (let before = -1; before !== mine.size; ) {
    before = mine.size
    for (const one of all) if (mine.has(one.parent)) mine.add(one.pid)
  }
  return all.filter((one) => mine.has(one.pid))
}

/** Whoever forks faster than that is not stopped by more rounds either. */
const ROUNDS = 50

/** Kills every process that carries the mark; resolves when there is none. */
export async function sweep(mark: Mark): Promise<void> {
  if (mark.uid === undefined && mark.home === undefined && mark.variable === undefined) return
  for (let round = 0; round < ROUNDS; round++) {
    const left = kin(await processes(), mark).filter(({ pid }) => pid !== process.pid)
    if (left.length === 0) return
    // Who stands still forks no more while the others are found.
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const) for (const { pid } of left) attempt(() => process.kill(pid, signal))
    await later()
  }
}

export interface MemoryWatch {
  /** Calls `over` once, with the resident bytes of the whole tree, when they are more than `bytes`. Returns how to stop watching. */
  watch(child: { readonly pid: number | undefined; readonly mark: Mark }, bytes: number, over: (resident: number) => void): () => void
}

const EVERY_MS = 1_000

/** Looks at all watched children in one pass over /proc, once a second, and not at all while nobody is watched. */
export function memoryWatch({ clock }: { readonly clock: Clock }): MemoryWatch {
  const watched = new Set<{ pid: number; mark: Mark; bytes: number; over: (resident: number) => void }>()
  let armed = false

  const look = async () => {
    const all = watched.size > 0 ? await processes() : []
    for (const one of [...watched]) {
      const resident = kin(all, one.mark, one.pid).reduce((sum, { rss }) => sum + rss, 0)
      if (resident <= one.bytes || !watched.delete(one)) continue
      one.over(resident)
    }
    armed = false
    arm()
  }
  const arm = () => {
    if (armed || watched.size === 0) return
    armed = true
    clock.at(clock.now() + EVERY_MS, () => void look())
  }

  return {
    watch({ pid, mark }, bytes, over) {
      if (pid === undefined) return () => {}
      const one = { pid, mark, bytes, over }
      watched.add(one)
      arm()
      return () => watched.delete(one)
    },
  }
}
