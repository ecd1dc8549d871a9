import { type ChildProcess, fork } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Row {
  readonly name: string
  readonly concurrency: number
  readonly rps: number
  readonly rps_min: number
  readonly rps_max: number
  readonly p50_ms: number
  readonly p99_ms: number
  readonly cpu_ms: number
  readonly rss_mb: number
}

export interface Sample {
  readonly rps: number
  readonly p50: number
  readonly p99: number
  /** ms of CPU for 1000 requests of the measured process */
  readonly cpuMs: number
  readonly rssMb: number
}

export interface Result {
  readonly workload: string
  readonly rows: readonly Row[]
  /** the worst ratio of `chaperone` to the floor */
  readonly to_floor: number | null
  readonly floor: string
  readonly notes: readonly string[]
  /** of many connections, where the workload has them */
  readonly memory?: Memory
  /** how many of 100 texts, by kind of traffic, did not need to be parsed */
  readonly known_texts?: Readonly<Record<string, number>>
}

/** W6: what a lock did to what was running. */
export interface LockResult {
  readonly workload: 'w6'
  readonly slipped: number
  /** the slowest of all, on one node and over two */
  readonly cut_ms: number
  readonly cut_ms_nodes: number
  readonly rows: readonly LockRowResult[]
  readonly notes: readonly string[]
}

export interface LockRowResult {
  readonly workload: 'w6'
  readonly name: string
  readonly nodes: number
  readonly running: number
  /** received by the resource after the acknowledgement, over all passes; streams are counted with the calls */
  readonly slipped: number
  readonly cut_ms: number
  readonly cut_ms_max: number
  /** until the node itself had written the goodbye, by its own clock: what is between this and `cut_ms` is the way to the client, and the client */
  readonly node_ms: number
  /** the last goodbye of the slowest pass */
  readonly node_ms_max: number
  /** CPU of the process that holds all clients, from the lock until its last client was cut */
  readonly clients_cpu_ms: number
  readonly ack_ms: number
  /** how many ended, in each pass */
  readonly cut: readonly number[]
}

/** W7: what became of calls that waited for a human when the process was killed. */
export interface ApprovalResult {
  readonly workload: 'w7'
  readonly lost: number
  readonly twice: number
  readonly rows: readonly {
    readonly workload: 'w7'
    readonly parked: number
    /** questions that were there after the restart */
    readonly kept: number
    readonly ran: number
    /** never reached the resource */
    readonly lost: number
    /** reached it more than once */
    readonly twice: number
    /** from the kill until the questions could be read again */
    readonly restart_ms: number
  }[]
  readonly notes: readonly string[]
}

/** Resident memory of the measured process with many connections at once. */
export interface Memory {
  readonly connections: number
  readonly before_mb: number
  readonly idle_mb: number
  /** while all of them work */
  readonly active_mb: number
  readonly idle_kb_each: number
  readonly active_kb_each: number
}

const median = (values: readonly number[]) => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
const round = (value: number, digits = 2) => Number(value.toFixed(digits))

export function rowOf(name: string, concurrency: number, samples: readonly Sample[]): Row {
  const rps = samples.map((sample) => sample.rps)
  return {
    name,
    concurrency,
    rps: round(median(rps), 1),
    rps_min: round(Math.min(...rps), 1),
    rps_max: round(Math.max(...rps), 1),
    p50_ms: round(median(samples.map((sample) => sample.p50))),
    p99_ms: round(median(samples.map((sample) => sample.p99))),
    cpu_ms: round(median(samples.map((sample) => sample.cpuMs)), 1),
    rss_mb: round(Math.max(...samples.map((sample) => sample.rssMb)), 1),
  }
}

/** Worst of chaperone/floor over what both were measured at (concurrency). */
export function toFloor(rows: readonly Row[]): number | null {
  const ratios = rows
    .filter((row) => row.name.startsWith('chaperone'))
    .flatMap((row) => {
      const floor = rows.find((other) => other.name === row.name.replace('chaperone', 'floor') && other.concurrency === row.concurrency)
      return floor && floor.rps > 0 ? [row.rps / floor.rps] : []
    })
  return ratios.length === 0 ? null : round(Math.min(...ratios), 3)
}

/** Starts a file of this folder as a process and waits for its first message. */
export function start<T>(
  file: string,
  order?: unknown,
  options: { readonly env?: NodeJS.ProcessEnv } = {},
): Promise<{ readonly child: ChildProcess; readonly said: T }> {
  // BENCH_PROFILE=DIR writes a CPU profile of Chaperone's process there.
  const profile = process.env.BENCH_PROFILE
  const execArgv = profile !== undefined && (file === 'chaperone.ts' || file === 'lock-node.ts') ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv, ...options })
  return new Promise((done, fail) => {
    child.once('message', (said: T) => done({ child, said }))
    child.once('exit', (code) => fail(new Error(`${file} ended with ${code}`)))
    if (order !== undefined) child.send(order as object)
  })
}

export const ask = <T>(child: ChildProcess, order: object): Promise<T> =>
  new Promise((done) => {
    child.once('message', (said: T) => done(said))
    child.send(order)
  })

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((done) => child.once('exit', done))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await gone
  clearTimeout(timer)
}

/** CPU ms so far (user and system, all threads) and resident MB of a process, from /proc. */
export function usage(pid: number): { readonly cpuMs: number; readonly rssMb: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0'
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssMb: Number(rss) / 1024 }
}

/** Median ms of one small durable write here: the price of every record. */
export function fsyncMs(): number {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-bench-'))
  const file = openSync(join(dir, 'fsync'), 'w')
  const times: number[] = []
  for (let i = 0; i < 200; i++) {
    const before = performance.now()
    writeSync(file, Buffer.alloc(4096, i))
    fdatasyncSync(file)
    times.push(performance.now() - before)
  }
  closeSync(file)
  rmSync(dir, { recursive: true })
  return round(median(times), 3)
}

export const machine = () => `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'cpu'}, Node ${process.version}, fdatasync ${fsyncMs()} ms`
