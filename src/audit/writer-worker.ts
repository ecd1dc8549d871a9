import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { storeError } from '../store/store-errors.ts'
import type { Ledger } from './ledger.ts'
import { openPostgresLedger } from './ledger-postgres.ts'
import { openSqliteLedger } from './ledger-sqlite.ts'
import { createMasker } from './mask.ts'
import type { Failure, FromWorker, ToWorker, WorkerSettings } from './messages.ts'
import { sizeOf, unpack } from './parcel.ts'
import { type BodyRow, type Incoming, type LeafRow, prepare } from './prepare.ts'
import { makeSequencer, type Sequencer } from './sequencer.ts'
import { EMPTY_ROOT } from './tree.ts'

/**
 * The writer's thread: masks, encodes and stores what the main thread hands over. Everything that waits becomes one
 * transaction (group commit), and is answered when that is durable. It lives on through any failure of the store: the
 * batch is refused, the connection is opened anew for the next one.
 */
const settings = workerData as WorkerSettings
const port = parentPort!

/** One transaction holds no more than this, so that the first of a flood does not wait for its last. */
const BATCH_RECORDS = 1000
const BATCH_BYTES = 8_388_608

interface Open {
  readonly ledger: Ledger
  readonly sequencer: Sequencer
  /** the last sequence number that is durable */
  seq: number
}

interface Waiting extends Incoming {
  readonly number: number
  readonly bytes: number
}

const masker = createMasker()
const queue: Waiting[] = []
let open: Open | undefined
/** Why the log is not believed: it was tampered with, so what happens is still recorded, but nothing more is signed. */
let distrusted: ChaperoneError | undefined
/** Work on the connection, one after the other. */
let turn: Promise<void> = Promise.resolve()
let committing = false
let ticking = false
let lastNow = 0
let isWatched: (type: string) => boolean = () => false

const signatures = new Map<number, { resolve(note: string): void; reject(error: Error): void }>()
let signing = 0

const say = (message: FromWorker) => port.postMessage(message)

function failureOf(error: unknown): Failure {
  const { code, message, detail, fix } = error instanceof ChaperoneError ? error : storeError(error)
  return { code, message, detail, fix }
}

function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const result = turn.then(work)
  turn = result.then(
    () => {},
    () => {},
  )
  return result
}

async function connect(): Promise<Open> {
  if (open) return open
  const { dialect, location, nodeId, maxPages } = settings
  const ledger = dialect === 'sqlite' ? openSqliteLedger(location, maxPages === undefined ? {} : { maxPages }) : await openPostgresLedger(location)
  try {
    const sequencer = makeSequencer(ledger, nodeId)
    const fresh: Open = { ledger, sequencer, seq: await ledger.lastSeq(nodeId) }
    if (!distrusted) await sequencer.start(lastNow).catch(distrust).catch(tellIfDistrusted)
    open = fresh
    return fresh
  } catch (error) {
    await ledger.close().catch(() => {}) // what went wrong first is what is told
    throw error
  }
}

function tellIfDistrusted(error: unknown): void {
  if (error !== distrusted) throw error
  say({ kind: 'trouble', failure: failureOf(error) })
}

/** After an error nobody knows what the connection has done: it is closed, and what is durable is read anew. */
async function disconnect(): Promise<void> {
  const { ledger } = open ?? {}
  open = undefined
  await ledger?.close().catch(() => {}) // it is broken already
}

async function commit(batch: readonly Waiting[]): Promise<void> {
  const { ledger, sequencer, seq } = await connect()
  const stored: Waiting[] = []
  const rows: LeafRow[] = []
  const bodies: BodyRow[] = []
  for (const item of batch) {
    try {
      const prepared = prepare(item, { node: settings.nodeId, seq: seq + rows.length + 1 }, masker, settings.maxBodyBytes)
      stored.push(item)
      rows.push(prepared.row)
      for (const body of prepared.bodies) bodies.push(body)
    } catch (error) {
      // Its number is not used up, and the others of the batch do not suffer.
      say({ kind: 'refused', numbers: [item.number], failure: failureOf(toChaperoneError(error)) })
    }
  }
  if (rows.length === 0) return
  const placement = distrusted
    ? undefined
    : sequencer.placementFor(
        rows.map(({ hash }) => hash),
        lastNow,
      )
  const claim = stored[0]?.claim
  const placed = claim
    ? await ledger.commitClaim(settings.nodeId, claim, rows[0]!, bodies, placement)
    : await ledger.commit(settings.nodeId, rows, bodies, placement)
  open!.seq = seq + rows.length
  if (placement) sequencer.placed(placement, placed)
  report(stored, rows)
}

/** What was stored, in runs of following numbers: nearly always one. */
function report(stored: readonly Waiting[], rows: readonly LeafRow[]): void {
  for (let start = 0; start < rows.length; ) {
    let end = start + 1
    while (end < rows.length && stored[end]!.number === stored[end - 1]!.number + 1) end++
    const leaves = rows.slice(start, end).flatMap(({ type, leaf }) => (isWatched(type) ? leaf.toString() : []))
    say({
      kind: 'stored',
      first: stored[start]!.number,
      seq: rows[start]!.seq,
      count: end - start,
      ...(leaves.length > 0 && { leaves }),
    })
    start = end
  }
}

function takeBatch(): Waiting[] {
  let bytes = 0
  let count = 0
  // What uses an approval up goes alone: if that fails, nobody else is refused with it.
  if (queue[0]?.claim) return queue.splice(0, 1)
  while (count < queue.length && count < BATCH_RECORDS && bytes < BATCH_BYTES && !queue[count]!.claim) bytes += queue[count++]!.bytes
  return queue.splice(0, count)
}

async function refuse(batch: readonly Waiting[], error: unknown): Promise<void> {
  if (!isClaimLost(error)) await disconnect()
  say({ kind: 'refused', numbers: batch.map(({ number }) => number), failure: failureOf(error) })
}

const isClaimLost = (error: unknown) => error instanceof ChaperoneError && error.code === 'approval_used'

async function commitAll(): Promise<void> {
  if (committing) return
  committing = true
  for (;;) {
    // While a commit of SQLite runs, this thread hears nothing; what came meanwhile belongs to the next one.
    for (let waiting = receiveMessageOnPort(port); waiting; waiting = receiveMessageOnPort(port)) hear(waiting.message)
    if (queue.length === 0) break
    const batch = takeBatch()
    await inTurn(() => commit(batch).catch((error) => refuse(batch, error)))
  }
  committing = false
}

/** Places what waits and signs the tree, if there is something new. */
async function sequence(): Promise<{ size: number; note: string } | undefined> {
  if (distrusted) throw distrusted
  const tree = await inTurn(async () => (await connect()).sequencer.round(lastNow)).catch(distrust)
  if (!tree) return undefined
  const note = await askForSignature(tree)
  await inTurn(async () => (await connect()).ledger.saveCheckpoint(tree.size, tree.root, note, lastNow))
  return { size: tree.size, note }
}

/** A tampered log stops the signing, not the recording: the record of what goes on is needed most then. */
function distrust(error: unknown): never {
  if (error instanceof ChaperoneError && error.code === 'record_broken') distrusted = error
  throw error
}

/** One that covers all there is. When another node is the sequencer, it is that node's newest: it signs every second. */
async function checkpoint(): Promise<{ size: number; note: string }> {
  const made = await sequence()
  if (made) return made
  const newest = await inTurn(async () => (await connect()).ledger.newestCheckpoint())
  return newest ? { size: newest.size, note: newest.note } : { size: 0, note: await askForSignature({ size: 0, root: EMPTY_ROOT }) }
}

function askForSignature(checkpoint: { size: number; root: string }): Promise<string> {
  const call = ++signing
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  signatures.set(call, { resolve, reject })
  say({ kind: 'sign', call, checkpoint })
  return promise
}

function answer(call: number, work: () => Promise<unknown>): void {
  work().then(
    (value) => say({ kind: 'answer', call, value }),
    (error) => say({ kind: 'answer', call, failure: failureOf(error) }),
  )
}

async function sequenceOrTell(): Promise<void> {
  if (distrusted) return // told once
  try {
    await sequence()
  } catch (error) {
    if (!distrusted) await inTurn(disconnect)
    say({ kind: 'trouble', failure: failureOf(error) })
  }
}

function hear(message: ToWorker): void {
  if ('now' in message) lastNow = message.now
  switch (message.kind) {
    case 'append':
      for (const [i, { text, columns, bodies, claim }] of unpack(message.parcel).entries()) {
        queue.push({ text, columns, bodies, claim, bytes: sizeOf(text, bodies), number: message.first + i })
        lastNow = columns.at
      }
      void commitAll()
      return
    case 'secrets':
      masker.add(message.values)
      return
    case 'watch': {
      const { watched } = message
      const types = new Set<string>(watched === 'all' ? [] : watched)
      isWatched = (type) => watched === 'all' || types.has(type)
      return
    }
    case 'tick':
      // A store or a signer that hangs must not be asked again every second.
      if (ticking) return
      ticking = true
      void sequenceOrTell().finally(() => {
        ticking = false
      })
      return
    case 'open':
      answer(message.call, async () => (await inTurn(connect)).seq)
      return
    case 'checkpoint':
      answer(message.call, checkpoint)
      return
    case 'signed': {
      const waiting = signatures.get(message.call)
      signatures.delete(message.call)
      if (message.note !== undefined) waiting?.resolve(message.note)
      else
        waiting?.reject(
          new ChaperoneError('internal', message.failure?.message ?? 'The checkpoint was not signed.', { detail: message.failure?.detail ?? '' }),
        )
      return
    }
    case 'close':
      answer(message.call, async () => {
        await sequenceOrTell()
        await inTurn(disconnect)
      })
  }
}

port.on('message', hear)
