import { ChaperoneError } from '../errors.ts'
import { effective } from '../identity/given.ts'
import { deadRules } from '../policy/lint.ts'
import type { Resource, Vocabulary } from '../policy/types.ts'
import { cornered, holdersOf, leaveOne, lostVerb } from './administrators.ts'
import { keyOf, planChanges, type Step } from './diff.ts'
import { escalations } from './escalate.ts'
import { misfitsOf } from './offers.ts'
import { type CrossFault, crossCheck } from './resolve.ts'
import type { Snapshot } from './stored.ts'
import type { Applier, ParsedDocument, PlainDocument, Problem } from './types.ts'
import { type FutureIdentity, makeWorld, NEW_ID, type World, worldOf } from './world.ts'

export interface PlanParts {
  readonly vocabularies: readonly Vocabulary[]
  /** Chaperone itself, as `chaperoneResource` makes it */
  readonly chaperone: Resource
}

/** What is asked for: documents to have, documents to lose. */
export interface Wish {
  readonly documents: readonly ParsedDocument[]
  /** Documents without an `owner` label get this one. */
  readonly owner?: string
  /** Removes what `owner` applied before and what is not among `documents`. */
  readonly prune?: boolean
  /** keys (`kind/name`) of documents to delete; unknown ones are an error */
  readonly remove?: readonly string[]
}

export interface Plan {
  readonly steps: readonly Step[]
  readonly warnings: readonly Problem[]
  readonly before: World
  readonly after: World
}

/** Documents that do not fit: the error carries each fault with its place. */
export class InvalidDocuments extends ChaperoneError {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    const errors = problems.filter((problem) => problem.level === 'error')
    const [first] = errors
    const where = first ? ` ${first.file}:${first.line}:${first.column}: ${first.message}` : ''
    super('invalid_document', errors.length === 1 ? `A document is not valid.${where}` : `${errors.length} faults in the documents.${where}`, {
      fix: first?.fix ?? 'Mend the documents and apply again; nothing was changed.',
    })
    this.name = 'InvalidDocuments'
    this.problems = problems
  }
}

/** What an apply would do, against one state of the store. Pure. Throws {@link InvalidDocuments}; `conflict` for an impossible wish. */
export function plan({ vocabularies, chaperone }: PlanParts, snapshot: Snapshot, wish: Wish, by: Applier, now: number): Plan {
  const { owner, prune = false } = wish
  if (prune && owner === undefined)
    throw new ChaperoneError('usage', 'Pruning needs an owner.', { fix: 'Name the owner whose documents these are: --owner NAME.' })

  const wanted = wish.documents.map((document) => (owner === undefined || document.labels.owner !== undefined ? document : owned(document, owner)))
  const places = new Map(wanted.map((document) => [keyOf(document), document]))
  const remove = new Set(wish.remove ?? [])
  if (prune) for (const document of snapshot.documents) if (document.owner === owner && !places.has(keyOf(document))) remove.add(keyOf(document))
  for (const key of remove)
    if (!snapshot.documents.some((document) => keyOf(document) === key)) throw new ChaperoneError('not_found', `There is no document ${key}.`)

  const steps = planChanges(snapshot.documents, wanted, remove)
  const before = worldOf(snapshot)
  const after = worldAfter(before, steps)

  const old = new Set(crossCheck(before).map(textOf))
  // What is wrong with a document applied earlier is no reason to refuse this one, unless this one made it so.
  const faults = crossCheck(after).filter((fault) => places.has(fault.of) || !old.has(textOf(fault)))
  const lost = lastAdministrator(steps, before, after)
  const problems = [
    ...faults,
    ...escalations(steps, before, after, by),
    ...stillHeld(steps, after),
    ...ownership(steps),
    ...dead(after),
    ...unfit(after),
    ...(lost ? [lost] : []),
  ].map((fault) => placed(fault, places))
  if (problems.some((problem) => problem.level === 'error')) throw new InvalidDocuments(problems)
  return { steps, warnings: problems, before, after }

  /** Of what is written now; what was applied earlier has been warned of then. */
  function dead(world: World): CrossFault[] {
    return deadRules({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)
      .filter((rule) => places.has(keyOf(rule)))
      .map((rule) => ({ of: keyOf(rule), path: ['spec', ...rule.path], level: 'warning', message: rule.message }))
  }

  /** A server that changes what it offers must not hold up whoever applies the same roles again: then it is a warning. */
  function unfit(world: World): CrossFault[] {
    const same = new Set(steps.filter(({ op }) => op === 'unchanged').map(keyOf))
    return misfitsOf(world, snapshot, vocabularies)
      .filter((misfit) => places.has(keyOf(misfit)))
      .map(({ path, level, message, fix, ...of }) => ({
        of: keyOf(of),
        path: ['spec', ...path],
        atKey: true,
        level: same.has(keyOf(of)) ? 'warning' : level,
        message,
        ...(fix === undefined ? {} : { fix }),
      }))
  }

  function lastAdministrator(all: readonly Step[], was: World, is: World): CrossFault | undefined {
    const changed = all.find((step) => step.op !== 'unchanged' && ['role', 'guardrail', 'user', 'agent'].includes(step.kind))
    if (!changed) return undefined
    const [held, holds] = [was, is].map((world) => holdersOf(world, vocabularies, chaperone, now)) as [Held, Held]
    const fault = { of: keyOf(all.find((step) => step.op === 'delete') ?? changed), path: [], level: 'error' } as const
    const verb = lostVerb(held, holds)
    const alone = verb ? undefined : cornered(held, holds, new Set([by.actor.id, ...(by.chain ?? []).map(({ id }) => id)]))
    if (alone)
      return {
        ...fault,
        message: `${alone.loser} administers Chaperone and would lose \`${alone.verb}\`, which ${alone.keeper} alone would keep: nobody makes himself hard to remove.`,
        fix: `Have ${alone.loser} apply it, leave the verb to somebody else too, or take administration from ${alone.loser} altogether.`,
      }
    if (!verb) return undefined
    const asked = leaveOne(is, verb)
    return {
      ...fault,
      message: asked
        ? `After this nobody could use \`${verb}\` of Chaperone any more: no two people would be left of whom one asks and the other says yes.`
        : verb === 'apply'
          ? 'After this nobody could apply documents any more: the last administrator cannot be removed.'
          : `After this nobody would hold \`${verb}\` of Chaperone any more, and nobody could give it back: the last administrator cannot be removed.`,
      fix: `Leave one active identity a role that allows \`chaperone: any, verbs: [${verb}]\`, or give it to somebody first.${asked}`,
    }
  }
}

type Held = ReturnType<typeof holdersOf>

const textOf = ({ of, path, message }: CrossFault) => JSON.stringify([of, path, message])

export function placed({ of, path, message, fix, level, atKey }: CrossFault, places: ReadonlyMap<string, ParsedDocument>): Problem {
  // A document that is not among those written now stands in no file of this call.
  const place = places.get(of)?.place(path, atKey) ?? { file: `${of} (applied earlier)`, line: 1, column: 1 }
  return { ...place, level, message, ...(fix === undefined ? {} : { fix }) }
}

const owned = (document: ParsedDocument, owner: string): ParsedDocument => ({ ...document, labels: { ...document.labels, owner } })

/** Holders with a document are found by their document; the first administrator may have none. */
function stillHeld(steps: readonly Step[], after: World): CrossFault[] {
  return steps.flatMap((step) => {
    if (step.op !== 'delete' || step.kind !== 'role') return []
    const holders = [...after.identities.values()].filter(
      (one) =>
        one.state !== 'deleted' && Array.isArray(one.roles) && one.roles.includes(step.name) && !after.documents.has(`${one.kind}/${one.name}`),
    )
    if (holders.length === 0) return []
    const names = holders.slice(0, 5).map((one) => one.name)
    return [
      {
        of: keyOf(step),
        path: [],
        level: 'error' as const,
        message: `${names.join(', ')} still has the role \`${step.name}\`.`,
        fix: 'Apply a document that takes the role away first.',
      },
    ]
  })
}

/** Two pipelines that own one document would undo each other for ever. */
function ownership(steps: readonly Step[]): CrossFault[] {
  return steps.flatMap((step) => {
    const was = step.before?.owner ?? undefined
    const is = step.after?.labels.owner
    if (!step.after || was === undefined || was === is) return []
    const message = is === undefined ? `It was owned by \`${was}\`; it will have no owner.` : `It was owned by \`${was}\`; \`${is}\` takes it over.`
    return [{ of: keyOf(step), path: ['labels', 'owner'], level: 'warning' as const, message }]
  })
}

/** What there would be once these steps were taken. */
export function worldAfter(before: World, steps: readonly Step[]): World {
  const documents = new Map(before.documents)
  const identities = new Map(before.identities)
  for (const step of steps) {
    const key = keyOf(step)
    if (step.op === 'delete') documents.delete(key)
    else documents.set(key, step.after as PlainDocument)
    if (step.kind !== 'user' && step.kind !== 'agent') continue
    const row = before.identities.get(step.name)
    // A name that was used before, or by another kind, is reported by crossCheck, which must still see that row.
    if (row && (row.kind !== step.kind || row.state === 'deleted')) continue
    if (step.op === 'delete') {
      if (row) identities.set(step.name, { ...row, state: 'deleted' })
    } else if (step.op !== 'unchanged') identities.set(step.name, futureOf(step, row))
  }
  return makeWorld({ ...before, documents, identities })
}

function futureOf(step: Step, row: FutureIdentity | undefined): FutureIdentity {
  const spec = step.after!.spec as { roles: readonly string[]; traits: Record<string, unknown>; owner?: string }
  const own = { roles: spec.roles, traits: spec.traits }
  return {
    id: row?.id ?? NEW_ID,
    kind: step.kind as 'user' | 'agent',
    name: step.name,
    state: stateSaid(step) ?? row?.state ?? 'active',
    ...(spec.owner === undefined ? {} : { owner: spec.owner }),
    ...(row?.given ? { ...effective({ ...row.given, own }), given: { ...row.given, own } } : own),
  }
}

/**
 * The state that this step sets, or undefined when it leaves the state alone: somebody who was disabled by hand during an
 * incident is not enabled again because a pipeline changed a trait.
 */
export function stateSaid({ before, after }: Step): 'active' | 'disabled' | undefined {
  const said = (after?.spec.state ?? 'active') as 'active' | 'disabled'
  const saidBefore = before ? (before.spec.state ?? 'active') : undefined
  if (said === saidBefore) return undefined
  // Naming an identity for the first time enables nobody by the way.
  return before === undefined && after?.spec.state === undefined ? undefined : said
}
