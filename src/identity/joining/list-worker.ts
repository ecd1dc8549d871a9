import { parentPort, workerData } from 'node:worker_threads'
import { readList } from './revocation-list.ts'

/** Reads one list, says what it says, and ends. */
const answer = (() => {
  try {
    return { list: readList(workerData as Uint8Array) }
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) }
  }
})()
parentPort!.postMessage(answer)
