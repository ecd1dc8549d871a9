import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { BARE_THREAD } from '../../encoding/bare-thread.ts'
import { listOf, type ReadList, type RevocationList, readRevocationList } from './revocation-list.ts'

/** A hundred revoked certificates: a thread takes longer to start than these to read. */
const SMALL = 4 * 1024

let turn: Promise<unknown> = Promise.resolve()

/**
 * As `readRevocationList`, and nobody waits meanwhile: half a second on the thread that serves everybody would hold up every request.
 * A list changes a few times a day, so the thread begins and ends with it; one list after the other. What one takes is bounded by its
 * size and by its nodes, in memory by the limit of the thread.
 */
export async function readInThread(bytes: Uint8Array): Promise<RevocationList> {
  if (bytes.length <= SMALL) return readRevocationList(bytes)
  const mine = turn.then(() => read(bytes))
  turn = mine.catch(() => {})
  return listOf(await mine)
}

function read(bytes: Uint8Array): Promise<ReadList> {
  const { promise, resolve, reject } = Promise.withResolvers<ReadList>()
  // From source the sibling is a .ts file, from the built package a .js file.
  const thread = new Worker(new URL(`./list-worker${extname(import.meta.url)}`, import.meta.url), {
    ...BARE_THREAD,
    name: 'revocation-list',
    workerData: bytes,
    resourceLimits: { maxOldGenerationSizeMb: 512 },
  })
  thread.once('message', (answer: { readonly list: ReadList } | { readonly fault: string }) =>
    'list' in answer ? resolve(answer.list) : reject(new Error(answer.fault)),
  )
  thread.once('error', reject)
  thread.once('exit', () => reject(new Error('the thread that read the revocation list ended')))
  return promise
}
