import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setImmediate as later } from 'node:timers/promises'
import type { Clock } from '../../../clock.ts'
import { askPs, tells } from './child-ps.ts'

/** By what the processes of one child are told from all others. */
export interface Mark {
  /** A user id that only this child has. */
  readonly uid?: number
  /** A folder that is its HOME or that it works in, and nobody else's. */
  readonly home?: string
  /** `NAME=value` in its environment. */
  readonly variable?: string
  /** A limit on file locks that only these have: it is handed on where the environment is not. */
  readonly locks?: bigint
}

interface Process {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly uid: number
  readonly rss: number
  /** only where it was asked for */
  readonly began?: string | undefined
  /** only where there is no /proc; see child-ps.ts */
  readonly environ?: string
}

/** The start time of a process (field 22 of proc(5), counted from behind the name): its id is given again. */
const beganAt = (pid: number) =>
  attempt(
    () =>
      readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')[19],
  )

/** Between two of these many reads others get their turn. */
const AT_ONCE = 64

/** Every process of this machine that we can see, zombies left out. Empty where there is no /proc. */
async function processes({ begun = false } = {}): Promise<Process[]> {
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
    const pid = Number(name)
    const more = begun ? { began: beganAt(pid) } : {}
    found.push({ pid, parent: number('PPid'), group: number('NSpgid'), uid: number('Uid'), rss: number('VmRSS') * 1024, ...more })
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

function isMarked(one: Process, mark: Mark): boolean {
  const { pid, uid } = one
  if (mark.uid !== undefined) return uid === mark.uid
  const { home } = mark
  const variable = mark.variable ?? (home === undefined ? undefined : `HOME=${home}`)
  if (variable === undefined) return false
  if (one.environ !== undefined) return tells({ environ: one.environ }, variable)
  if (
    attempt(() => readFileSync(`/proc/${pid}/environ`, 'latin1'))
      ?.split('\0')
      .includes(variable)
  )
    return true
  if (mark.locks !== undefined) {
    const limits = attempt(() => readFileSync(`/proc/${pid}/limits`, 'latin1')) ?? ''
    if (/^Max file locks\s+\S+\s+(\d+)/m.exec(limits)?.[1] === String(mark.locks)) return true
  }
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

const allBegun = async (): Promise<readonly Process[]> => (existsSync('/proc/self/stat') ? processes({ begun: true }) : askPs().catch(() => []))

const isStill = ({ pid, began, environ }: Process) => environ !== undefined || (began !== undefined && beganAt(pid) === began)

/** Kills every process that carries the mark; resolves when there is none. */
export async function sweep(mark: Mark): Promise<void> {
  if (mark.uid === undefined && mark.home === undefined && mark.variable === undefined) return
  for (let round = 0; round < ROUNDS; round++) {
    const left = kin(await allBegun(), mark).filter(({ pid }) => pid !== process.pid)
    if (left.length === 0) return
    // Who stands still forks no more while the others are found.
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const) for (const one of left) if (isStill(one)) attempt(() => process.kill(one.pid, signal))
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
