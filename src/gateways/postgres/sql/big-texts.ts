import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../../../clock.ts'
import { BARE_THREAD } from '../../../encoding/bare-thread.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Reading, remember } from './parse.ts'

/** Texts that wait for the one thread. */
const MOST_WAITING = 64
/** Of one person: nobody may take all the places. */
const MOST_OF_ONE = 16
/** A text that takes longer is given up, and the thread with it: memory of WebAssembly is never given back. */
const LONGEST_MS = 10_000

interface Job {
  readonly text: string
  resolve(): void
  reject(error: ChaperoneError): void
}

/**
 * Parses large texts in a thread of its own, one at a time, and by turns: whoever sends many of them waits for himself. The
 * thread starts with the first large text.
 */
export class BigTexts {
  readonly #clock: Clock
  readonly #lines = new Map<string, Job[]>()
  #waiting = 0
  #worker: Worker | undefined
  #job: Job | undefined
  #disarm = () => {}

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * Resolves when `parseSql` and `fingerprintOf` know the text; ask them at once, for the next ones push it out. `whose`: by
   * whom turns are taken. Rejects with ChaperoneError (`too_many`, `too_large`).
   */
  read(text: string, whose: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const line = this.#lines.get(whose)
      if (this.#waiting >= MOST_WAITING || (line?.length ?? 0) >= MOST_OF_ONE) {
        reject(new ChaperoneError('too_many', 'Too many large SQL texts wait to be read.', { fix: 'Try again later, or send smaller ones.' }))
        return
      }
      this.#waiting++
      const job = { text, resolve, reject }
      if (line) line.push(job)
      else this.#lines.set(whose, [job])
      this.#next()
    })
  }

  close(): void {
    void this.#worker?.terminate()
    this.#worker = undefined
  }

  #next(): void {
    if (this.#job) return
    const [first] = this.#lines
    if (!first) return
    const [whose, line] = first
    const job = line.shift()!
    // Whose turn it was goes to the end.
    this.#lines.delete(whose)
    if (line.length > 0) this.#lines.set(whose, line)
    this.#waiting--
    this.#job = job
    this.#worker ??= this.#start()
    this.#disarm = this.#clock.at(this.#clock.now() + LONGEST_MS, () => this.#giveUp(this.#worker))
    this.#worker.ref()
    this.#worker.postMessage(job.text)
  }

  #start(): Worker {
    // From source the sibling is a .ts file, from the built package a .js file.
    const worker = new Worker(new URL(`./parse-worker${extname(import.meta.url)}`, import.meta.url), {
      ...BARE_THREAD,
      name: 'parse',
      resourceLimits: { maxOldGenerationSizeMb: 1024 },
    })
    worker.on('message', (answer: Reading) => this.#answered(worker, answer))
    worker.on('error', () => this.#giveUp(worker))
    worker.on('exit', () => this.#giveUp(worker))
    return worker
  }

  #answered(worker: Worker, reading: Reading): void {
    if (worker !== this.#worker) return
    const job = this.#job!
    this.#over()
    remember(job.text, reading)
    job.resolve()
    this.#next()
  }

  #giveUp(worker: Worker | undefined): void {
    if (worker === undefined || worker !== this.#worker) return
    this.#worker = undefined
    void worker.terminate()
    const job = this.#job
    this.#over()
    job?.reject(new ChaperoneError('too_large', 'The SQL text is too deep or too large to be read.'))
    this.#next()
  }

  #over(): void {
    this.#disarm()
    this.#job = undefined
    // Idle it keeps no process alive.
    this.#worker?.unref()
  }
}
