import type { KeyObject } from 'node:crypto'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { BARE_THREAD } from '../encoding/bare-thread.ts'
import { ChaperoneError, REASONS, type ReasonCode } from '../errors.ts'
import type { Leaf, Life, Signed } from './certificate.ts'
import type { Answer, Ask, Put } from './issue-worker.ts'

/** A key to sign with. `id` names it; the same id is always the same key. */
export interface SigningKey {
  readonly id: string
  /** DER of the authority's name */
  readonly name: Uint8Array
  readonly keyIdentifier: Uint8Array
  readonly privateKey: KeyObject
}

/** The worker thread, seen from outside: it is started when first needed and again after it died. */
export interface IssuerThread {
  /** A leaf, or an authority when `leaf` is absent. Throws `issue_refused`, `too_many`, `internal` (the worker died; try again). */
  sign(by: SigningKey, spki: Uint8Array, life: Life, leaf?: Leaf): Promise<Signed>
  close(): Promise<void>
  /** For tests: ends the thread as a crash would. */
  kill(): Promise<void>
}

/** About four seconds of work for one core; more would only wait to be too late. */
const MOST_PENDING = 4096

interface Pending {
  readonly resolve: (signed: Signed) => void
  readonly reject: (error: ChaperoneError) => void
}

export function startIssuer(): IssuerThread {
  let worker: Worker | undefined
  let closed = false
  let last = 0
  let given = new Set<string>()
  const pending = new Map<number, Pending>()

  function start(): Worker {
    // From source the sibling is a .ts file, from the built package a .js file.
    const thread = new Worker(new URL(`./issue-worker${extname(import.meta.url)}`, import.meta.url), { ...BARE_THREAD, name: 'issue' })
    thread.on('message', (answer: Answer) => settle(answer))
    thread.on('error', (error) => died(thread, error))
    thread.on('exit', () => died(thread, undefined))
    // An idle CA keeps no process alive; a pending ask does.
    thread.unref()
    given = new Set()
    return thread
  }

  function died(thread: Worker, cause: unknown): void {
    if (worker !== thread) return
    worker = undefined
    for (const ask of [...pending.values()]) {
      ask.reject(
        new ChaperoneError('internal', 'The certificate could not be issued.', { detail: 'the issuing thread ended', fix: 'Try again.', cause }),
      )
    }
    pending.clear()
  }

  function settle(answer: Answer): void {
    const ask = pending.get(answer.ask)
    pending.delete(answer.ask)
    if (pending.size === 0) worker?.unref()
    if ('signed' in answer) ask?.resolve(answer.signed)
    else ask?.reject(new ChaperoneError(codeOf(answer.code), answer.message, answer.detail === undefined ? {} : { detail: answer.detail }))
  }

  return {
    sign(by, spki, life, leaf) {
      if (closed) return Promise.reject(new ChaperoneError('draining', 'Chaperone is shutting down.'))
      if (pending.size >= MOST_PENDING)
        return Promise.reject(new ChaperoneError('too_many', 'Too many certificates are asked for at once.', { fix: 'Try again later.' }))
      worker ??= start()
      const thread = worker
      if (!given.has(by.id)) {
        thread.postMessage({ put: by.id, name: by.name, keyIdentifier: by.keyIdentifier, privateKey: by.privateKey } satisfies Put)
        given.add(by.id)
      }
      const ask = ++last
      return new Promise((resolve, reject) => {
        pending.set(ask, { resolve, reject })
        thread.ref()
        thread.postMessage({ ask, by: by.id, spki, life, ...(leaf ? { leaf } : {}) } satisfies Ask)
      })
    },
    async close() {
      closed = true
      await worker?.terminate()
    },
    async kill() {
      await worker?.terminate()
    },
  }
}

const codeOf = (code: string): ReasonCode => (code in REASONS ? (code as ReasonCode) : 'internal')
