import type { KeyObject } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import type { Log } from './log.ts'
import type { Failure } from './messages.ts'
import { PART, type PartReport, type PartTask, verifyPart } from './verify-part.ts'

interface How {
  readonly keys: readonly KeyObject[]
  readonly sizes: readonly number[]
  readonly threads: number | undefined
}

/** More would only wait for the disk. */
const MOST_THREADS = 4
/** Threads take as long to start as looking at so many leaves. */
const WORTH_THREADS = 16_384

/** The parts of the log in order, looked at here or by threads. */
export async function* partsOf(log: Log, total: number, { keys, sizes, threads }: How): AsyncIterable<PartReport> {
  const tasks: PartTask[] = []
  for (let from = 0; from < total; from += PART)
    tasks.push({ from, to: Math.min(from + PART, total), sizes: sizes.filter((size) => size > from && size <= from + PART) })
  const count = Math.min(threads ?? Math.min(MOST_THREADS, availableParallelism()), tasks.length)
  if (count === 0 || (threads === undefined && total < WORTH_THREADS)) {
    for (const task of tasks) yield await verifyPart(log, task, keys)
    return
  }
  const exported = keys.map((key) => key.export({ format: 'der', type: 'spki' }))
  const workers = Array.from({ length: count }, () => startWorker(log, exported))
  try {
    // Task n goes to worker n modulo their number, two ahead: the order is kept without a queue that could grow.
    const asked: Promise<PartReport>[] = []
    for (let next = 0; next < tasks.length; next++) {
      while (asked.length < tasks.length && asked.length < next + 2 * count) {
        const answer = workers[asked.length % count]!.ask(tasks[asked.length]!)
        answer.catch(() => {}) // it is awaited in its turn
        asked.push(answer)
      }
      yield await asked[next]!
      delete asked[next]
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.end()))
  }
}

function startWorker(log: Log, keys: readonly Uint8Array[]) {
  // In a build the files end in .js; strings are not rewritten by the compiler.
  const file = import.meta.url.endsWith('.ts') ? './verify-worker.ts' : './verify-worker.js'
  const worker = new Worker(fileURLToPath(new URL(file, import.meta.url)), {
    workerData: { place: log.place, keys },
    name: 'audit-verify',
    execArgv: [],
  })
  const waiting: { resolve(part: PartReport): void; reject(error: unknown): void }[] = []
  worker.on('message', ({ part, failure }: { part?: PartReport; failure?: Failure }) => {
    const first = waiting.shift()
    if (part) first?.resolve(part)
    else first?.reject(new ChaperoneError((failure?.code ?? 'internal') as ReasonCode, failure?.message ?? '', { detail: failure?.detail ?? '' }))
  })
  worker.on('error', (error) => {
    for (const { reject } of waiting.splice(0)) reject(error)
  })
  return {
    ask(task: PartTask): Promise<PartReport> {
      const { promise, resolve, reject } = Promise.withResolvers<PartReport>()
      waiting.push({ resolve, reject })
      worker.postMessage(task)
      return promise
    },
    async end(): Promise<void> {
      await worker.terminate()
    },
  }
}
