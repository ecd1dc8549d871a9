import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../clock.ts'
import { ChaperoneError, REASONS, type ReasonCode } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store } from '../store/store.ts'
import { Appends } from './appends.ts'
import { draftText } from './draft-text.ts'
import { columnsOf, decodeEnvelope } from './envelope.ts'
import type { Failure, FromWorker, ToWorker, Watched, WorkerSettings } from './messages.ts'
import { originOf, signCheckpoint } from './note.ts'
import { emptyParcel, type Parcel, pack, sizeOf } from './parcel.ts'
import type { AuditLog, Body, Claim, Draft, Envelope, RecordType, Urgency } from './record.ts'

export interface AuditOptions {
  readonly nodeId: string
  readonly trustDomain: string
  readonly keyring: Pick<Keyring, 'signer'>
  readonly clock: Clock
  /** Values that are masked from the first record on. */
  readonly secrets?: readonly string[]
  /** How often a checkpoint is signed while there is something new; default one second. */
  readonly checkpointEveryMs?: number
  /** A body is cut at this; default 256 KiB. */
  readonly maxBodyBytes?: number
  /** Records that may wait to become durable, default 10,000, and their bytes, default 64 MiB. */
  readonly maxWaiting?: number
  readonly maxWaitingBytes?: number
  /** Told what failed while nobody waited for it: signing, sequencing, a watcher, a crash of the writer. Default: a warning of the process. */
  readonly onTrouble?: (error: ChaperoneError) => void
  /** SQLite's file may not grow beyond so many pages (4 KiB); past that it is as if the disk were full, which is what tests use it for. */
  readonly maxPages?: number
}

const DEFAULTS = {
  checkpointEveryMs: 1000,
  maxBodyBytes: 262_144,
  maxWaiting: 10_000,
  maxWaitingBytes: 67_108_864,
  onTrouble: (error: ChaperoneError) => process.emitWarning(error),
}

/** How long a record that nobody waits for may wait for others. */
const COMPANY_MS = 5

/** What an append weighs beside its text, about. */
const OVERHEAD_BYTES = 200

/**
 * Opens the record over a store whose schema is up to date. The writing is done by a thread with its own connection.
 *
 * Never await `append` inside of `store.write`: on SQLite the writer would wait for the lock that this transaction holds,
 * and refuse after five seconds.
 */
export async function openAudit(store: Pick<Store, 'dialect' | 'location'>, options: AuditOptions): Promise<AuditLog> {
  const writer = new Writer(store, options)
  await writer.open()
  return writer
}

interface Waiting<T> {
  resolve(value: T): void
  reject(error: ChaperoneError): void
}

interface Watcher {
  see(envelope: Envelope): void
  /** undefined: all */
  readonly types: ReadonlySet<RecordType> | undefined
}

interface Append extends Waiting<{ readonly id: string; readonly seq: number }> {
  readonly number: number
  readonly id: string
  readonly bytes: number
}

class Writer implements AuditLog {
  readonly #options: AuditOptions & Required<Pick<AuditOptions, keyof typeof DEFAULTS>>
  readonly #settings: WorkerSettings
  readonly #secrets: Set<string>
  readonly #watchers = new Set<Watcher>()
  #worker: Worker | undefined
  #closing: Promise<void> | undefined

  /** Appends that are not answered yet, by their number. */
  readonly #appends = new Appends<Append>()
  #bytes = 0
  #number = 0
  /** What was appended in this turn of the event loop: it goes over in one message. */
  #outbox: Parcel = emptyParcel()
  /** Set while a flush at the end of this turn is under way. */
  #flushing: NodeJS.Immediate | undefined
  /** Set while all that waits in the outbox waits for company. */
  #company: NodeJS.Timeout | undefined

  readonly #calls = new Map<number, Waiting<unknown>>()
  #call = 0
  #settled: (() => void) | undefined
  #stopTicking: () => void = () => {}

  constructor(store: Pick<Store, 'dialect' | 'location'>, options: AuditOptions) {
    this.#options = { ...DEFAULTS, ...options }
    this.#secrets = new Set(options.secrets)
    const { nodeId, maxBodyBytes, maxPages } = this.#options
    this.#settings = { dialect: store.dialect, location: store.location, nodeId, maxBodyBytes, ...(maxPages !== undefined && { maxPages }) }
  }

  async open(): Promise<void> {
    try {
      await this.#ask({ kind: 'open' })
    } catch (error) {
      await this.#worker?.terminate()
      throw error
    }
    this.#tickLater()
  }

  append(draft: Draft, urgency: Urgency = 'now'): Promise<{ readonly id: string; readonly seq: number }> {
    return this.#write(draft, urgency, undefined)
  }

  claim(draft: Draft, claim: Claim): Promise<{ readonly id: string; readonly seq: number }> {
    return this.#write(draft, 'now', claim)
  }

  #write(draft: Draft, urgency: Urgency, claim: Claim | undefined): Promise<{ readonly id: string; readonly seq: number }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ readonly id: string; readonly seq: number }>()
    try {
      this.#enqueue(draft, { urgency, claim }, resolve, reject)
    } catch (error) {
      reject(error instanceof ChaperoneError ? error : unavailable(error instanceof Error ? error.message : String(error), undefined, error))
    }
    return promise
  }

  #enqueue(
    { bodies = [], ...rest }: Draft,
    { urgency, claim }: { readonly urgency: Urgency; readonly claim: Claim | undefined },
    resolve: Append['resolve'],
    reject: Append['reject'],
  ): void {
    if (this.#closing) throw unavailable('the record is closed')
    const at = this.#options.clock.now()
    const id = rest.id ?? newId('rec', at)
    const draft = rest.id === undefined ? { ...rest, id } : rest
    const text = draftText(draft) ?? JSON.stringify(draft)
    const bytes = OVERHEAD_BYTES + sizeOf(text, bodies)
    const { maxWaiting, maxWaitingBytes } = this.#options
    if (this.#appends.size >= maxWaiting || this.#bytes + bytes > maxWaitingBytes) {
      throw unavailable(
        `${this.#appends.size} records, ${this.#bytes} bytes wait to be written`,
        'Try again: records come faster than the store takes them.',
      )
    }
    pack(this.#outbox, { text, columns: columnsOf({ ...draft, id, at }), bodies: bodies.length === 0 ? bodies : bodies.map(ownBytes), claim })
    if (urgency === 'now') this.#flushThisTurn()
    else this.#company ??= setTimeout(() => this.#flush(), COMPANY_MS)
    this.#appends.add({ number: ++this.#number, id, bytes, resolve, reject })
    this.#bytes += bytes
  }

  /** An immediate, not a microtask: Node runs those after every socket it reads, and the intents of a turn would go one by one. */
  #flushThisTurn(): void {
    this.#flushing ??= setImmediate(() => this.#flush())
  }

  #flush(): void {
    clearTimeout(this.#company)
    clearImmediate(this.#flushing)
    this.#company = this.#flushing = undefined
    const parcel = this.#outbox
    const count = parcel.at.length
    if (count === 0) return
    this.#outbox = emptyParcel()
    const copies = parcel.bodies.flatMap((part) => (part instanceof Uint8Array ? [part.buffer as ArrayBuffer] : []))
    this.#send({ kind: 'append', first: this.#number - count + 1, parcel }, copies)
  }

  addSecrets(values: readonly string[]): void {
    for (const value of values) this.#secrets.add(value)
    // Messages arrive in order: what was appended before goes over before.
    this.#flush()
    if (this.#worker) this.#send({ kind: 'secrets', values })
  }

  watch(see: (envelope: Envelope) => void, types?: ReadonlySet<RecordType>): () => void {
    const watcher: Watcher = { see, types }
    this.#watchers.add(watcher)
    this.#tellWatched()
    return () => {
      if (this.#watchers.delete(watcher)) this.#tellWatched()
    }
  }

  #tellWatched(): void {
    if (this.#worker) this.#send({ kind: 'watch', watched: this.#watched() })
  }

  #watched(): Watched {
    const all = [...this.#watchers]
    return all.some(({ types }) => types === undefined) ? 'all' : [...new Set(all.flatMap(({ types }) => [...(types ?? [])]))]
  }

  async checkpoint(): Promise<{ readonly size: number; readonly note: string }> {
    return (await this.#ask({ kind: 'checkpoint' })) as { size: number; note: string }
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async #finish(): Promise<void> {
    this.#stopTicking()
    this.#flush()
    if (this.#appends.size > 0) {
      await new Promise<void>((resolve) => {
        this.#settled = resolve
      })
    }
    if (!this.#worker) return
    try {
      await this.#ask({ kind: 'close' })
    } finally {
      await this.#worker?.terminate()
    }
  }

  /** Every second, also when nothing new is known here: on PostgreSQL other nodes' records may wait for their places. */
  #tickLater(): void {
    const { clock, checkpointEveryMs } = this.#options
    this.#stopTicking = clock.at(clock.now() + checkpointEveryMs, () => {
      if (this.#worker) this.#send({ kind: 'tick', now: clock.now() })
      this.#tickLater()
    })
  }

  #ask(question: { readonly kind: 'open' | 'checkpoint' | 'close' }): Promise<unknown> {
    const call = ++this.#call
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#calls.set(call, { resolve, reject })
    this.#flush()
    this.#send({ ...question, call, now: this.#options.clock.now() })
    return promise
  }

  #send(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker ??= this.#start()
    this.#worker.ref() // it holds the process only while somebody waits for it
    this.#worker.postMessage(message, transfer)
    this.#letGo()
  }

  #letGo(): void {
    if (this.#appends.size > 0 || this.#calls.size > 0) return
    this.#worker?.unref()
    this.#settled?.()
  }

  #start(): Worker {
    // In a build the files end in .js; strings are not rewritten by the compiler.
    const file = import.meta.url.endsWith('.ts') ? './writer-worker.ts' : './writer-worker.js'
    const worker = new Worker(fileURLToPath(new URL(file, import.meta.url)), { workerData: this.#settings, name: 'audit', execArgv: [] })
    let crash: unknown
    worker.on('message', (message: FromWorker) => this.#hear(message))
    worker.on('error', (error) => {
      crash = error
    })
    worker.on('exit', () => this.#lost(worker, crash))
    if (this.#secrets.size > 0) worker.postMessage({ kind: 'secrets', values: [...this.#secrets] } satisfies ToWorker)
    if (this.#watchers.size > 0) worker.postMessage({ kind: 'watch', watched: this.#watched() } satisfies ToWorker)
    return worker
  }

  /** The thread ended. What it was asked is refused; the next append starts another one. */
  #lost(worker: Worker, crash: unknown): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    // What has not gone over yet is refused too, so it must not be written later.
    this.#outbox = emptyParcel()
    clearTimeout(this.#company)
    clearImmediate(this.#flushing)
    this.#company = this.#flushing = undefined
    const why = crash instanceof Error ? (crash.stack ?? crash.message) : 'the writer ended'
    const waiting = [...this.#appends.clear(), ...this.#calls.values()]
    this.#calls.clear()
    this.#bytes = 0
    for (const { reject } of waiting) reject(unavailable(why))
    this.#settled?.()
    if (crash !== undefined) this.#options.onTrouble(unavailable(why))
  }

  #hear(message: FromWorker): void {
    switch (message.kind) {
      case 'stored':
        for (let i = 0; i < message.count; i++) {
          const append = this.#take(message.first + i)
          append?.resolve({ id: append.id, seq: message.seq + i })
        }
        if (message.leaves) this.#show(message.leaves)
        break
      case 'refused':
        for (const number of message.numbers)
          this.#take(number)?.reject(
            message.failure.code === 'approval_used'
              ? errorOf(message.failure)
              : unavailable(`${message.failure.message} ${message.failure.detail ?? ''}`, message.failure.fix),
          )
        break
      case 'sign':
        void this.#sign(message.call, message.checkpoint)
        break
      case 'answer': {
        const waiting = this.#calls.get(message.call)
        this.#calls.delete(message.call)
        if (message.failure) waiting?.reject(errorOf(message.failure))
        else waiting?.resolve(message.value)
        break
      }
      case 'trouble':
        this.#options.onTrouble(errorOf(message.failure))
    }
    this.#letGo()
  }

  #take(number: number): Append | undefined {
    const append = this.#appends.take(number)
    if (append) this.#bytes -= append.bytes
    return append
  }

  async #sign(call: number, checkpoint: { readonly size: number; readonly root: string }): Promise<void> {
    try {
      const key = await this.#options.keyring.signer('checkpoints')
      this.#send({ kind: 'signed', call, note: signCheckpoint({ origin: originOf(this.#options.trustDomain), ...checkpoint }, key) })
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      this.#send({ kind: 'signed', call, failure: { code: 'internal', message: 'The checkpoint was not signed.', detail: message } })
    }
  }

  #show(leaves: readonly string[]): void {
    for (const leaf of leaves) {
      const envelope = decodeEnvelope(leaf)
      for (const { see, types } of this.#watchers) {
        if (types && !types.has(envelope.type)) continue
        try {
          see(envelope)
        } catch (error) {
          // A broken tail must not take the record with it.
          this.#options.onTrouble(new ChaperoneError('internal', 'A watcher of the record failed.', { detail: String(error), cause: error }))
        }
      }
    }
  }
}

/** A Buffer is often a window on a larger one, which the way between threads would copy whole; and its owner may reuse it. */
const ownBytes = ({ name, bytes }: Body): Body => ({ name, bytes: typeof bytes === 'string' ? bytes : new Uint8Array(bytes) })

function unavailable(detail: string, fix?: string, cause?: unknown): ChaperoneError {
  return new ChaperoneError('audit_unavailable', REASONS.audit_unavailable.meaning, { detail, cause, ...(fix !== undefined && { fix }) })
}

function errorOf({ code, message, detail, fix }: Failure): ChaperoneError {
  const known: ReasonCode = Object.hasOwn(REASONS, code) ? (code as ReasonCode) : 'internal'
  return new ChaperoneError(known, message, { ...(detail !== undefined && { detail }), ...(fix !== undefined && { fix }) })
}
