import type { KeyObject } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { ChaperoneError } from '../errors.ts'
import { type Columns, columnsOf, decodeEnvelope } from './envelope.ts'
import type { Log, StoredBody, StoredLeaf } from './log.ts'
import { openCheckpoint } from './note.ts'
import { commitment } from './prepare.ts'
import type { BodyRef, Envelope } from './record.ts'
import { appendLeaves, EMPTY_FRONTIER, type Frontier, type Hash, leafHash } from './tree.ts'

/**
 * Verifying a log is cut into parts of this many leaves, each a perfect subtree: parts are looked at by several threads,
 * and what they find is put together in order by verify.ts.
 */
export const PART = 4096

/** Lists of findings end here; the rest is counted. */
const MOST_PROBLEMS = 100

export interface Problem {
  readonly kind:
    | 'changed' // the leaf is not the one that was hashed
    | 'unreadable' // the leaf is no record
    | 'moved' // the leaf is another record's
    | 'index' // a column beside the leaf says something else
    | 'missing' // a position or sequence number without a record
    | 'order' // a record stands before one that was written earlier, or twice
    | 'body' // a body is not the one that was committed to, is missing, or belongs to nothing
    | 'tree' // the records are not those that were signed
    | 'checkpoint' // a checkpoint is forged
    | 'cut' // more was signed than is there
  readonly message: string
  readonly position?: number
  readonly node?: string
  readonly seq?: number
  readonly id?: string
  /** an interval of positions, both ends included */
  readonly from?: number
  readonly to?: number
}

/** A list of problems with an end. */
export interface Problems {
  readonly list: Problem[]
  count: number
}

export const noProblems = (): Problems => ({ list: [], count: 0 })

export function report(problems: Problems, ...found: readonly Problem[]): void {
  problems.count += found.length
  for (const problem of found) if (problems.list.length < MOST_PROBLEMS) problems.list.push(problem)
}

/** What one part found. Plain data: it crosses threads. */
export interface PartReport {
  readonly from: number
  readonly to: number
  readonly leaves: number
  readonly bodies: number
  readonly erased: number
  readonly problems: Problems
  /** positions that have no record, as intervals */
  readonly missing: readonly { readonly from: number; readonly to: number }[]
  /** what each node's sequence did, in order of position: starts, and every place where it did not go on by one */
  readonly runs: readonly SequenceRun[]
  /** tree of this part alone, by the hashes that are stored; not there when a leaf is missing */
  readonly tree?: Frontier
  /** the same at each size that is asked about or was signed, as far as the tree goes */
  readonly marks: readonly { readonly size: number; readonly tree: Frontier; readonly root?: Hash }[]
  readonly checkpoints: number
}

/** Sequence numbers `first` to `last` of a node, without a gap. */
export interface SequenceRun {
  readonly node: string
  readonly first: number
  last: number
  readonly position: number
}

export interface PartTask {
  readonly from: number
  readonly to: number
  /** sizes whose roots are wanted: the checkpoint that was kept outside */
  readonly sizes: readonly number[]
}

export async function verifyPart(log: Log, { from, to, sizes }: PartTask, keys: readonly KeyObject[]): Promise<PartReport> {
  const problems = noProblems()
  const missing: { from: number; to: number }[] = []
  const runs = makeRuns()
  const wanted = await readCheckpoints(log, from, to, keys, problems)
  const checkpoints = wanted.size
  for (const size of sizes) if (size > from && size <= to && !wanted.has(size)) wanted.set(size, undefined)
  const marks: { size: number; tree: Frontier; root?: Hash }[] = []
  const sorted = [...wanted.keys()].sort((a, b) => a - b)
  let nextMark = 0
  let tree: Frontier | undefined = EMPTY_FRONTIER
  let expected = from
  let leaves = 0
  const bodies = { checked: 0, erased: 0 }

  for await (const page of log.leaves(from, to)) {
    await setImmediate() // SQLite answers at once, and others want to run on this thread too
    const refs: WithBodies[] = []
    let hashes: Hash[] = []
    const grow = () => {
      if (tree) tree = appendLeaves(tree, hashes)
      hashes = []
    }
    for (const leaf of page) {
      leaves++
      if (leaf.position! > expected) {
        missing.push({ from: expected, to: leaf.position! - 1 })
        grow()
        tree = undefined
      }
      expected = leaf.position! + 1
      const envelope = checkLeaf(leaf, problems)
      runs.see(leaf)
      refs.push({ leaf, bodies: envelope && (envelope.bodies ?? []) })
      hashes.push(leaf.hash)
      if (sorted[nextMark] === expected) {
        grow()
        const root = wanted.get(expected)
        if (tree) marks.push({ size: expected, tree, ...(root !== undefined && { root }) })
        nextMark++
      }
    }
    grow()
    await checkBodies(log, refs, bodies, problems)
  }
  if (expected < to) {
    missing.push({ from: expected, to: to - 1 })
    tree = undefined
  }
  return {
    from,
    to,
    leaves,
    bodies: bodies.checked,
    erased: bodies.erased,
    problems,
    missing,
    runs: runs.list,
    ...(tree && { tree }),
    marks,
    checkpoints,
  }
}

/** The leaf by itself: is it what was hashed, and what its columns say? Gives the envelope when it can be believed so far. */
export function checkLeaf(stored: StoredLeaf, problems: Problems): Envelope | undefined {
  const where = { ...(stored.position !== null && { position: stored.position }), node: stored.node, seq: stored.seq, id: stored.id }
  if (leafHash(stored.leaf) !== stored.hash) {
    report(problems, { kind: 'changed', ...where, message: `Record ${stored.id} was changed: it does not have the hash that was written with it.` })
    return undefined
  }
  let envelope: Envelope
  try {
    envelope = decodeEnvelope(stored.leaf)
  } catch (error) {
    if (!(error instanceof ChaperoneError)) throw error
    report(problems, { kind: 'unreadable', ...where, message: `Record ${stored.id} cannot be read: ${error.message}` })
    return undefined
  }
  if (envelope.node !== stored.node || envelope.seq !== stored.seq) {
    report(problems, {
      kind: 'moved',
      ...where,
      message: `In the place of record ${stored.seq} of ${stored.node} stands record ${envelope.seq} of ${envelope.node}.`,
    })
    return undefined
  }
  const columns = columnsOf(envelope)
  const lying = (Object.keys(columns) as (keyof Columns)[]).filter((column) => columns[column] !== stored[column])
  if (lying.length > 0) {
    report(problems, {
      kind: 'index',
      ...where,
      message: `Record ${envelope.id} is as it was written, but the columns by which it is found are not: ${lying.join(', ')}.`,
    })
  }
  return envelope
}

/** A leaf and the bodies it names; what a leaf names that cannot be believed is not asked. */
export interface WithBodies {
  readonly leaf: StoredLeaf
  readonly bodies: readonly BodyRef[] | undefined
}

/** Bodies of a page, read in runs of following records. */
export async function checkBodies(
  log: Log,
  page: readonly WithBodies[],
  totals: { checked: number; erased: number },
  problems: Problems,
): Promise<void> {
  const nodes = Map.groupBy(page, ({ leaf }) => leaf.node)
  for (const [node, records] of nodes) {
    const bySeq = new Map(records.map((record) => [record.leaf.seq, record]))
    const seqs = [...bySeq.keys()].sort((a, b) => a - b)
    const first = seqs[0]!
    const last = seqs.at(-1)!
    // Normally they follow each other; when somebody has mixed them, a range could be the whole log.
    const ranges = last - first < seqs.length * 2 ? [[first, last] as const] : seqs.map((seq) => [seq, seq] as const)
    const found = new Set<string>()
    for (const [from, to] of ranges) {
      await log.bodies(node, from, to, (body) => {
        const record = bySeq.get(body.seq)
        if (!record) return
        totals.checked++
        found.add(`${body.seq} ${body.name}`)
        checkBody(record, body, totals, problems)
      })
    }
    for (const { leaf, bodies } of records) {
      for (const { name } of bodies ?? []) {
        if (!found.has(`${leaf.seq} ${name}`)) report(problems, bodyProblem(leaf, `The body "${name}" of record ${leaf.id} is missing.`))
      }
    }
  }
}

function checkBody({ leaf, bodies }: WithBodies, stored: StoredBody, totals: { erased: number }, problems: Problems): void {
  if (!bodies) return
  const ref = bodies.find(({ name }) => name === stored.name)
  if (!ref) report(problems, bodyProblem(leaf, `Record ${leaf.id} has no body "${stored.name}", and yet there is one.`))
  else if (stored.body === null && stored.erasedAt !== null) totals.erased++
  else if (stored.body === null || stored.salt.length !== 32 || commitment(stored.salt, stored.body) !== ref.commitment) {
    report(problems, bodyProblem(leaf, `The body "${stored.name}" of record ${leaf.id} is not the one that was written.`))
  }
}

function bodyProblem({ position, node, seq, id }: StoredLeaf, message: string): Problem {
  return { kind: 'body', ...(position !== null && { position }), node, seq, id, message }
}

/** The sizes that were signed and the roots they were signed with; those of a forged note count for nothing. */
async function readCheckpoints(
  log: Log,
  from: number,
  to: number,
  keys: readonly KeyObject[],
  problems: Problems,
): Promise<Map<number, Hash | undefined>> {
  const signed = new Map<number, Hash | undefined>()
  for await (const page of log.checkpoints(from, to)) {
    for (const { size, root, note } of page) {
      signed.set(size, undefined)
      try {
        const checkpoint = openCheckpoint(note, keys)
        if (checkpoint.size !== size || checkpoint.root !== root)
          throw new ChaperoneError('record_broken', 'The signed note says something else than the row it stands in.')
        signed.set(size, root)
      } catch (error) {
        if (!(error instanceof ChaperoneError)) throw error
        report(problems, { kind: 'checkpoint', to: size - 1, message: `The checkpoint over ${size} records is forged: ${error.message}` })
      }
    }
  }
  return signed
}

export function makeRuns(): { readonly list: SequenceRun[]; see(leaf: Pick<StoredLeaf, 'node' | 'seq' | 'position'>): void } {
  const list: SequenceRun[] = []
  const current = new Map<string, SequenceRun>()
  return {
    list,
    see({ node, seq, position }) {
      const run = current.get(node)
      if (run && run.last + 1 === seq) run.last = seq
      else {
        const fresh = { node, first: seq, last: seq, position: position ?? -1 }
        current.set(node, fresh)
        // A log that somebody has shuffled makes as many runs as leaves; the first ones tell enough.
        if (list.length < MOST_PROBLEMS * 10) list.push(fresh)
      }
    },
  }
}
