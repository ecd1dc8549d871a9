import { createPublicKey, type KeyObject } from 'node:crypto'
import { ChaperoneError } from '../errors.ts'
import type { Log, Overview } from './log.ts'
import { openCheckpoint, type SignedCheckpoint } from './note.ts'
import { openLogForReading } from './open-log.ts'
import { appendSubtree, EMPTY_FRONTIER, EMPTY_ROOT, type Frontier, frontierToBytes, rootOf } from './tree.ts'
import {
  checkBodies,
  checkLeaf,
  makeRuns,
  noProblems,
  PART,
  type PartReport,
  type Problem,
  type Problems,
  report,
  type SequenceRun,
  type WithBodies,
} from './verify-part.ts'
import { partsOf } from './verify-parts.ts'

export { type Log, openLogForReading, type Problem }

export interface VerifyOptions {
  /** The keys to believe. Without them, those in the store are believed, and the report says so. */
  readonly publicKeys?: readonly KeyObject[]
  /** A signed checkpoint that was kept outside of the store: finds a log that was cut or rolled back. */
  readonly checkpoint?: string
  /** Threads that do the work; default as many as there are processors, at most 4, and none for a short log. */
  readonly threads?: number
}

export interface VerifyReport {
  readonly ok: boolean
  /** leaves that were looked at */
  readonly records: number
  /** of these, how many have no position yet */
  readonly unsequenced: number
  /** of these, how many no checkpoint covers yet: nothing signed speaks for them */
  readonly unsigned: number
  readonly bodies: number
  /** of these, how many were erased on purpose: their commitments stand */
  readonly erased: number
  readonly checkpoints: number
  /** size of the newest checkpoint in the store */
  readonly signed: number
  readonly keysFrom: 'given' | 'store'
  /** the first hundred */
  readonly problems: readonly Problem[]
  readonly problemCount: number
  /** what this run could not exclude, in sentences */
  readonly notes: readonly string[]
  readonly tookMs: number
}

/**
 * Looks at every leaf, body and checkpoint of a log, and at the tree over them. Memory stays flat. The store is not
 * believed: somebody who can write it can recompute every hash in it, but not the signatures.
 *
 * Throws ChaperoneError('malformed') when `checkpoint` is none, 'store_unavailable' when the store does not answer.
 */
export async function verifyLog(log: Log, options: VerifyOptions = {}): Promise<VerifyReport> {
  const start = performance.now()
  const overview = await log.overview()
  const problems = noProblems()
  const keys = options.publicKeys ?? overview.keys.map((key) => createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }))
  const kept = options.checkpoint === undefined ? undefined : openKept(options.checkpoint, keys, problems)
  findCut(overview, kept, problems)

  const sequences = makeSequences(problems)
  const tree = makeTree(kept, problems)
  const totals = { checked: 0, erased: 0 }
  let records = 0
  let checkpoints = 0
  for await (const part of partsOf(log, overview.total, { keys, sizes: kept ? [kept.size] : [], threads: options.threads })) {
    records += part.leaves
    checkpoints += part.checkpoints
    totals.checked += part.bodies
    totals.erased += part.erased
    report(problems, ...part.problems.list)
    problems.count += part.problems.count - part.problems.list.length
    tree.add(part)
    sequences.add(part)
  }
  tree.compare(overview)

  const bodyNodes = await log.bodyNodes()
  const tail = await readTail(log, overview.total, totals, problems)
  sequences.add({ missing: [], runs: tail.runs })
  records += tail.records
  await findOrphans(log, bodyNodes, sequences.last, totals.checked, problems)

  const unsigned = records - Math.min(overview.signed, overview.total)
  return {
    ok: problems.count === 0,
    records,
    unsequenced: tail.records,
    unsigned,
    bodies: totals.checked,
    erased: totals.erased,
    checkpoints,
    signed: overview.signed,
    keysFrom: options.publicKeys ? 'given' : 'store',
    problems: problems.list,
    problemCount: problems.count,
    notes: notesOf({ kept, keysGiven: options.publicKeys !== undefined, unsigned, stopped: tree.stopped() }),
    tookMs: performance.now() - start,
  }
}

function openKept(note: string, keys: readonly KeyObject[], problems: Problems): SignedCheckpoint | undefined {
  try {
    return openCheckpoint(note, keys)
  } catch (error) {
    if (!(error instanceof ChaperoneError) || error.code === 'malformed') throw error
    report(problems, { kind: 'checkpoint', message: `The checkpoint that was given proves nothing: ${error.message}` })
    return undefined
  }
}

/** What was signed once must be there still. */
function findCut({ total, signed, sequencer }: Overview, kept: SignedCheckpoint | undefined, problems: Problems): void {
  if (kept && kept.size > total) {
    report(problems, {
      kind: 'cut',
      from: total,
      to: kept.size - 1,
      message: `The log was cut or rolled back: the checkpoint that was given covers ${kept.size} records, and ${total} are there.`,
    })
  } else if (signed > total) {
    report(problems, {
      kind: 'cut',
      from: total,
      to: signed - 1,
      message: `The log was cut: a checkpoint in the store covers ${signed} records, and ${total} are there.`,
    })
  } else if (sequencer && sequencer.size > total) {
    report(problems, {
      kind: 'cut',
      from: total,
      to: sequencer.size - 1,
      message: `The log was cut: ${sequencer.size} records had been given positions, and ${total} are there.`,
    })
  }
}

/** Puts the parts of the tree together and compares it with what was signed, from the beginning until it is wrong once. */
function makeTree(kept: SignedCheckpoint | undefined, problems: Problems) {
  let whole: Frontier | undefined = EMPTY_FRONTIER
  let proven = 0
  let passedOver = 0
  if (kept?.size === 0 && kept.root !== EMPTY_ROOT) report(problems, { kind: 'checkpoint', message: 'The checkpoint that was given is of no log.' })

  return {
    add(part: Pick<PartReport, 'from' | 'to' | 'tree' | 'marks'>): void {
      for (const mark of part.marks) {
        if (!whole) passedOver++
        else {
          // Not joined, but the root comes out the same: the part's subtrees are no larger than those before them.
          const root = rootOf({ size: mark.size, hashes: [...whole.hashes, ...mark.tree.hashes] })
          const given = kept?.size === mark.size ? kept.root : undefined
          if (given !== undefined && given !== root) {
            report(problems, {
              kind: 'tree',
              from: proven,
              to: mark.size - 1,
              message: `The log is not the one that the given checkpoint was signed over: it differs somewhere in positions ${proven} to ${mark.size - 1}.`,
            })
            whole = undefined
          } else if (mark.root !== undefined && mark.root !== root) {
            report(problems, {
              kind: 'tree',
              from: proven,
              to: mark.size - 1,
              message: `The records at positions ${proven} to ${mark.size - 1} are not the ones that were signed: at least one of them was changed, swapped or replaced.`,
            })
            whole = undefined
          } else proven = mark.size
        }
      }
      if (!part.tree) whole = undefined
      else if (whole)
        whole =
          part.to - part.from === PART
            ? appendSubtree(whole, rootOf(part.tree), PART)
            : { size: part.to, hashes: [...whole.hashes, ...part.tree.hashes] }
    },
    /** The sequencer would go on from its own right edge, so a false one makes false checkpoints. */
    compare({ total, sequencer }: Overview): void {
      if (!whole || sequencer?.size !== total) return
      if (!frontierToBytes(whole).equals(sequencer.frontier))
        report(problems, { kind: 'tree', from: proven, to: total - 1, message: 'The state of the sequencer does not belong to these records.' })
    },
    stopped: () => passedOver,
  }
}

/** Each node numbers its records from 1 without gaps, and positions follow these numbers. */
function makeSequences(problems: Problems) {
  const last = new Map<string, number>()
  /** positions known to be missing, and not yet told by the number of the record that stood there */
  let lost = 0
  return {
    last,
    add({ missing, runs }: { readonly missing: PartReport['missing']; readonly runs: readonly SequenceRun[] }): void {
      for (const { from, to } of missing) {
        lost += to - from + 1
        report(problems, {
          kind: 'missing',
          from,
          to,
          message: from === to ? `The record at position ${from} is missing.` : `The records at positions ${from} to ${to} are missing.`,
        })
      }
      for (const run of runs) {
        const before = last.get(run.node) ?? 0
        const gap = run.first - before - 1
        const where = { node: run.node, seq: run.first, ...(run.position >= 0 && { position: run.position }) }
        if (gap > 0 && gap <= lost) lost -= gap
        else if (gap > 0)
          report(problems, {
            kind: 'missing',
            ...where,
            message: `Of ${run.node}, record ${before + 1}${gap === 1 ? ' is' : ` and the ${gap - 1} after it are`} missing.`,
          })
        else if (gap < 0)
          report(problems, {
            kind: 'order',
            ...where,
            message: `Record ${run.first} of ${run.node} stands after its record ${before}: records were swapped, or one was inserted.`,
          })
        last.set(run.node, Math.max(before, run.last))
      }
    },
  }
}

/** Leaves without a position, and those that got one since the overview was read. */
async function readTail(
  log: Log,
  total: number,
  totals: { checked: number; erased: number },
  problems: Problems,
): Promise<{ records: number; runs: readonly SequenceRun[] }> {
  const runs = makeRuns()
  let records = 0
  for await (const page of log.tail(total)) {
    const withBodies: WithBodies[] = page.map((leaf) => {
      const envelope = checkLeaf(leaf, problems)
      runs.see(leaf)
      return { leaf, bodies: envelope && (envelope.bodies ?? []) }
    })
    records += page.length
    await checkBodies(log, withBodies, totals, problems)
  }
  return { records, runs: runs.list }
}

/** Bodies that belong to no record. */
async function findOrphans(
  log: Log,
  nodes: readonly string[],
  last: ReadonlyMap<string, number>,
  checked: number,
  problems: Problems,
): Promise<void> {
  let count = 0
  for (const node of nodes) count += await log.countBodies(node, last.get(node) ?? Number.MAX_SAFE_INTEGER)
  if (count > checked) report(problems, { kind: 'body', message: `${count - checked} bodies belong to no record.` })
}

function notesOf({
  kept,
  keysGiven,
  unsigned,
  stopped,
}: {
  kept: SignedCheckpoint | undefined
  keysGiven: boolean
  unsigned: number
  stopped: number
}): string[] {
  const notes: string[] = []
  if (!kept)
    notes.push(
      'Without a checkpoint that was kept outside of the store, it cannot be excluded that the newest records were cut off, or that the store was put back to an older state.',
    )
  if (!keysGiven)
    notes.push(
      'The public keys were read from the store itself, so whoever can rewrite all of it could have signed it anew. Give the key that you kept to exclude that.',
    )
  if (unsigned > 0) notes.push(`The newest ${unsigned} records are not covered by a checkpoint yet.`)
  if (stopped > 0) notes.push(`${stopped} checkpoints above the first break say nothing, and were not compared.`)
  return notes
}
