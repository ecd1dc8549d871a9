import { createPublicKey } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { toChaperoneError } from '../errors.ts'
import type { LogPlace } from './log.ts'
import { openLog } from './open-log.ts'
import { type PartTask, verifyPart } from './verify-part.ts'

/** One of the threads that verify parts of a log, with a connection of its own. */
const { place, keys } = workerData as { readonly place: LogPlace; readonly keys: readonly Uint8Array[] }
const port = parentPort!
const publicKeys = keys.map((key) => createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }))
const log = openLog(place)
log.catch(() => {}) // told with the first task

/** One after the other: the answers are expected in the order of the tasks. */
let turn = Promise.resolve()

port.on('message', (task: PartTask) => {
  turn = turn.then(() => work(task))
})

async function work(task: PartTask): Promise<void> {
  try {
    port.postMessage({ part: await verifyPart(await log, task, publicKeys) })
  } catch (error) {
    const { code, message, detail, fix } = toChaperoneError(error)
    port.postMessage({ failure: { code, message, detail, fix } })
  }
}
