import { createPublicKey } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { toChaperoneError } from '../errors.ts'
import { type LogPlace, openLog } from './log.ts'
import { type PartTask, verifyPart } from './verify-part.ts'

/** One of the threads that verify parts of a log, with a connection of its own. */
const { place, keys } = workerData as { readonly place: LogPlace; readonly keys: readonly Uint8Array[] }
const port = parentPort!
const publicKeys = keys.map((key) => createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }))
const log = openLog(place)
log.catch(() => {}) // told with the first task

port.on('message', async (task: PartTask | undefined) => {
  if (!task) {
    await log.then((open) => open.close()).catch(() => {}) // it only reads: there is nothing to lose
    process.exit()
  }
  try {
    port.postMessage({ part: await verifyPart(await log, task, publicKeys) })
  } catch (error) {
    const { code, message, detail, fix } = toChaperoneError(error)
    port.postMessage({ failure: { code, message, detail, fix } })
  }
})
