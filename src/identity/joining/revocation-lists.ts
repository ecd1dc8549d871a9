import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { z } from 'zod'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { readInThread } from './list-thread.ts'
import type { OpenFetch } from './method.ts'
import { LARGEST_LIST, type RevocationList } from './revocation-list.ts'

/** A list that was fetched is not asked for again for so long: with the sweep, the longest that a revocation takes to count here. */
const FRESH_MS = 5 * 60_000
/** So often at most is somebody asked who did not answer, or a file read. */
const LOOK_AGAIN_MS = 30_000
const MOST_LISTS = 64
const MOST_OF_ONE = 20
/** In a document it is read again with every one that is applied, by the thread that serves everybody. */
const LARGEST_WRITTEN = 64 * 1024

const one = z.union([
  z.string().min(1).max(LARGEST_WRITTEN),
  z.strictObject({
    url: z
      .url({ protocol: /^https$/ })
      .max(512)
      .describe('fetched from here and nowhere else; what a certificate names is not asked'),
    ca: z.string().max(65_536).optional().describe('PEM of the authority behind the certificate of that server'),
    allow_private: z.literal(true).optional().describe('it may lie inside your own network'),
  }),
  z.strictObject({ file: z.string().min(2).max(1024).startsWith('/').describe('a file of the server, read again every half minute') }),
])
export const listPlaces = z.union([one, z.array(one).min(1).max(MOST_OF_ONE)])
export type ListPlace = z.infer<typeof one>

export interface RevocationLists {
  /** The newest that each place gave. Throws `upstream_unavailable` when one never gave any. */
  of(places: z.infer<typeof listPlaces>): Promise<readonly RevocationList[]>
}

interface Kept {
  /** sha256 of what was read */
  bytes: string
  list: RevocationList | undefined
  fetchedAt: number
  triedAt: number
  why: unknown
  underWay: Promise<void> | undefined
}

export function openRevocationLists({ open, clock }: { readonly open: OpenFetch; readonly clock: { now(): number } }): RevocationLists {
  const kept = new Map<string, Kept>()

  function entryOf(place: ListPlace): Kept {
    const id = sha256(canonicalJson(place))
    const entry = kept.get(id) ?? {
      ...{ bytes: '', list: undefined, why: undefined, underWay: undefined },
      ...{ fetchedAt: Number.NEGATIVE_INFINITY, triedAt: Number.NEGATIVE_INFINITY },
    }
    kept.delete(id)
    if (kept.size >= MOST_LISTS) kept.delete(kept.keys().next().value!)
    kept.set(id, entry)
    return entry
  }

  async function newest(place: ListPlace): Promise<RevocationList> {
    const entry = entryOf(place)
    const now = clock.now()
    const age = now - entry.fetchedAt
    const due = typeof place === 'string' ? entry.list === undefined : 'file' in place || age >= FRESH_MS || (entry.list?.nextUpdate ?? 0) <= now
    if (due && now - entry.triedAt >= LOOK_AGAIN_MS) {
      entry.underWay ??= bytesOf(open, place)
        .then(async (bytes) => {
          const digest = sha256(bytes)
          if (entry.list === undefined || digest !== entry.bytes) take(entry, await readInThread(bytes), digest)
          entry.fetchedAt = clock.now()
        })
        .catch((error: unknown) => {
          entry.why = error
        })
        .finally(() => {
          entry.triedAt = clock.now()
          entry.underWay = undefined
        })
      await entry.underWay
    }
    if (entry.list) return entry.list
    throw noList(`${wordsOf(place)}: ${entry.why instanceof Error ? entry.why.message : 'tried a moment ago'}`, entry.why)
  }

  return { of: (places) => Promise.all([places].flat().map(newest)) }
}

const sha256 = (of: string | Uint8Array): string => createHash('sha256').update(of).digest('hex')

/** Who answers with an older one would take a revocation back. */
function take(entry: Kept, list: RevocationList, digest: string): void {
  if (entry.list && list.thisUpdate < entry.list.thisUpdate) return
  entry.list = list
  entry.bytes = digest
}

const wordsOf = (place: ListPlace) => (typeof place === 'string' ? 'the list in the document' : 'url' in place ? place.url : place.file)

/** Nobody's certificate is wrong: the server does not know. */
export const noList = (detail: string, cause?: unknown) =>
  new ChaperoneError('upstream_unavailable', 'This Chaperone has no current revocation list for the certificate, so nobody can join by it now.', {
    fix: 'Try again in a minute; an administrator finds in the record which list is missing or overdue.',
    detail,
    ...(cause === undefined ? {} : { cause }),
  })

async function bytesOf(open: OpenFetch, place: ListPlace): Promise<Uint8Array> {
  if (typeof place === 'string') return Buffer.from(place)
  if ('file' in place) return await fromFile(place.file)
  const { url, ca, allow_private: allowPrivate = false } = place
  const fetch = open({ name: 'the revocation list', origin: new URL(url), ca, allowPrivate, maxBytes: LARGEST_LIST })
  const answer = await fetch(url, { headers: { accept: 'application/pkix-crl' } })
  if (answer.status !== 200) throw new Error(`it answered with status ${answer.status}`)
  return new Uint8Array(await answer.arrayBuffer())
}

/** Non-blocking: a pipe of that name would hold up whoever reads it. */
async function fromFile(path: string): Promise<Uint8Array> {
  const handle = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!(await handle.stat()).isFile()) throw new Error('it is no ordinary file')
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(LARGEST_LIST + 1), 0, LARGEST_LIST + 1, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}
