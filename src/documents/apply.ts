import { createHash } from 'node:crypto'
import type { AuditLog, Draft } from '../audit/record.ts'
import type { DirectorySpec } from '../catalog/directory.ts'
import type { Clock } from '../clock.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { createIdentity, findIdentity, setIdentityState, updateIdentity } from '../identity/directory.ts'
import { newId } from '../ids.ts'
import { regrant } from '../signin/directory/gifts.ts'
import type { Lease } from '../store/lease.ts'
import type { Store, Write } from '../store/store.ts'
import { holdersOf, lostVerb } from './administrators.ts'
import { digestOf, keyOf, type Step, toChange } from './diff.ts'
import { meaningOf } from './meaning.ts'
import { closedWarning, closeInvitations, closesInvitations, openInvitations } from './open-invitations.ts'
import { type Plan, type PlanParts, plan, stateSaid, type Wish } from './plan.ts'
import { loadSnapshot, type Snapshot } from './stored.ts'
import type { Applied, Applier, Change, DocumentKinds, ParsedDocument } from './types.ts'
import { worldOf } from './world.ts'

export interface DocumentsParts extends PlanParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly lease: Pick<Lease, 'noticed' | 'confirmed'>
  readonly clock: Clock
  readonly kinds: DocumentKinds
}

export interface ApplyOptions {
  readonly owner?: string
  readonly prune?: boolean
  /** Says what would change, and changes nothing. */
  readonly dryRun?: boolean
  /** `exactDigest` of the change that somebody said yes to: when it is another one by now, nothing is done. */
  readonly approved?: string
}

/**
 * Makes the store say what the documents say: all of it or nothing, in one transaction, recorded before. What is already
 * so is left alone: a second apply changes nothing, raises no epoch and leaves no record. Returns when every node has
 * confirmed the new epoch. Throws `invalid_document` (with `problems`), `conflict`, `audit_unavailable`.
 */
export async function applyDocuments(
  parts: DocumentsParts,
  by: Applier,
  documents: readonly ParsedDocument[],
  options: ApplyOptions = {},
): Promise<Applied> {
  const { dryRun = false, approved, ...rest } = options
  return carryOut(parts, by, { documents, ...rest }, dryRun, approved)
}

/** Deletes one document; an identity is gone at once, and its name is never used again. Throws `not_found`, `invalid_document`. */
export async function deleteDocument(parts: DocumentsParts, by: Applier, kind: string, name: string, approved?: string): Promise<Applied> {
  return carryOut(parts, by, removal(kind, name), false, approved)
}

export const removal = (kind: string, name: string): Wish => ({ documents: [], remove: [keyOf({ kind, name })] })

/**
 * What would be done now and with what, and what it comes to: `digest` is another one when a document differs, or what it is compared
 * with, or what it means. Throws as the doing of it.
 */
export async function exactChange(
  parts: DocumentsParts,
  by: Applier,
  wish: Wish,
): Promise<{ readonly digest: string; readonly changes: readonly Change[]; readonly meaning: ReturnType<typeof meaningOf> }> {
  const planned = plan(parts, await loadSnapshot(parts.store.db), wish, by, parts.clock.now())
  const changes = planned.steps.filter(({ op }) => op !== 'unchanged').map((step) => toChange(step, parts.kinds))
  return { digest: exactDigest(parts, planned), changes, meaning: meaningOf(parts, planned.steps, planned.before, planned.after) }
}

async function carryOut(parts: DocumentsParts, by: Applier, wish: Wish, dryRun: boolean, approved: string | undefined): Promise<Applied> {
  const { store, audit, lease, clock, kinds } = parts
  const planned = plan(parts, await loadSnapshot(store.db), wish, by, clock.now())
  const assertApproved = (now: Plan) => {
    if (approved === undefined || exactDigest(parts, now) === approved) return
    throw new ChaperoneError(
      'conflict',
      'What was approved has changed in the meantime: somebody else changed these documents, or who gains what by them. Nothing was applied.',
      { fix: 'Apply again: it is asked about anew.' },
    )
  }
  assertApproved(planned)
  const changes = planned.steps.map((step) => toChange(step, kinds))
  const closing = closesInvitations(planned.steps)
  const closed = closing ? await openInvitations(store.db, clock.now()) : []
  const warnings = [...planned.warnings, ...(closing && closed.length > 0 ? [closedWarning(closing, wish, closed)] : [])]
  if (dryRun || planned.steps.every((step) => step.op === 'unchanged')) return { changes, warnings }

  // The record comes first (rule 3). It cannot stand inside the transaction: on SQLite the audit writer needs the same
  // write lock. So what was recorded is planned again inside it, and anything else is a conflict.
  const recorded = await audit.append(draftOf(by, changes, closed))
  let epoch: number
  try {
    ;({ epoch } = await store.reduce(async (trx) => {
      const was = await loadSnapshot(trx)
      const again = plan(parts, was, wish, by, clock.now())
      if (essence(again.steps) !== essence(planned.steps)) {
        throw new ChaperoneError('conflict', 'Somebody else changed these documents at the same moment; nothing was applied.', {
          fix: 'Apply again.',
        })
      }
      assertApproved(again)
      await write(trx, again.steps, by, clock.now())
      if (closing) await closeInvitations(trx)
      if (again.steps.some(({ kind, op }) => kind === 'directory' && op !== 'unchanged')) await assertAdministratorLeft(parts, trx, was)
    }))
  } catch (error) {
    const reason = error instanceof ChaperoneError ? error.code : 'store_unavailable'
    await audit.append({ ...whoDid(by), type: 'documents.applied', permit: recorded.id, outcome: { status: 'failed', reason } })
    throw error
  }
  await lease.noticed(epoch)
  await lease.confirmed(epoch)
  return { changes, warnings, epoch }
}

/** What directories give was worked out anew while it was written, from groups that no plan knows. Throws `conflict`. */
async function assertAdministratorLeft({ vocabularies, chaperone, clock }: DocumentsParts, trx: Write, was: Snapshot): Promise<void> {
  const holders = (snapshot: Snapshot) => holdersOf(worldOf(snapshot), vocabularies, chaperone, clock.now())
  const verb = lostVerb(holders(was), holders(await loadSnapshot(trx)))
  if (verb === undefined) return
  throw new ChaperoneError('conflict', `After this nobody would hold \`${verb}\` of Chaperone any more: a directory gave it. Nothing was applied.`, {
    fix: 'Give a role that has it to somebody in a document of his own first.',
  })
}

/** What makes two plans the same: each step, and what it starts from. */
const essence = (steps: readonly Step[]) =>
  canonicalJson(steps.map(({ op, kind, name, before, after }) => [op, kind, name, before ? digestOf(before) : null, after ? digestOf(after) : null]))

/** sha256 hex of what is changed, and of what that means to whom; what stays as it is, is no part of it. */
const exactDigest = (parts: DocumentsParts, { steps, before, after }: Plan): string =>
  createHash('sha256')
    .update(essence(steps.filter(({ op }) => op !== 'unchanged')))
    .update(canonicalJson(meaningOf(parts, steps, before, after)))
    .digest('hex')

const whoDid = ({ actor, chain, session }: Applier): Pick<Draft, 'actor' | 'chain' | 'session'> => ({
  actor,
  ...(chain === undefined ? {} : { chain }),
  ...(session === undefined ? {} : { session }),
})

/** A leaf is small (decision 3.6): the first names stand in it, the whole diff lies beside it. */
const NAMES_IN_LEAF = 100

function draftOf(by: Applier, changes: readonly Change[], closed: readonly string[]): Draft {
  const changed = changes.filter((change) => change.op !== 'unchanged')
  const text = changed.map(({ op, kind, name, diff = '' }) => `${op} ${kind}/${name}\n${diff}`).join('\n')
  return {
    ...whoDid(by),
    type: 'documents.applied',
    data: {
      changes: changed.slice(0, NAMES_IN_LEAF).map(({ op, kind, name }) => `${op} ${kind}/${name}`),
      created: changed.filter((change) => change.op === 'create').length,
      updated: changed.filter((change) => change.op === 'update').length,
      deleted: changed.filter((change) => change.op === 'delete').length,
      ...(closed.length === 0 ? {} : { invitationsClosed: closed.slice(0, NAMES_IN_LEAF) }),
    },
    bodies: [{ name: 'diff', bytes: text }],
  }
}

/** Users before the agents they own; the other way round for deletions. */
const ORDER: Readonly<Record<string, number>> = { user: 1, agent: 2 }

async function write(trx: Write, steps: readonly Step[], by: Applier, now: number): Promise<void> {
  const changed = steps.filter((step) => step.op !== 'unchanged')
  const rank = (step: Step) => (step.op === 'delete' ? -(ORDER[step.kind] ?? 0) : (ORDER[step.kind] ?? 0))
  // The gifts of directories are worked out anew from the groups that are known: last, when people are as they will be.
  const directories = changed.filter((step) => step.kind === 'directory')
  for (const step of [...changed].sort((a, b) => rank(a) - rank(b))) {
    const { kind, name, before, after } = step
    const identityId = kind === 'user' || kind === 'agent' ? await project(trx, step, by.actor.id, now) : undefined
    if (!after) {
      await trx.deleteFrom('documents').where('kind', '=', kind).where('name', '=', name).execute()
      // A document of that name may be of another agent tomorrow: a machine that was known by this one is not known by that. Copied keys stay known as such.
      if (kind === 'join') await trx.deleteFrom('join_keys').where('document', '=', name).where('revoked_at', 'is', null).execute()
      // A server of that name will be another one, with an id and definitions of its own.
      if (kind === 'mcp' && before) await trx.deleteFrom('pins').where('resource_id', '=', before.id).execute()
      continue
    }
    const values = {
      labels: canonicalJson(after.labels),
      spec: canonicalJson(after.spec),
      digest: digestOf(after),
      owner: after.labels.owner ?? null,
      applied_by: by.actor.id,
      updated_at: now,
    }
    if (before) await trx.updateTable('documents').set(values).where('id', '=', before.id).execute()
    else
      await trx
        .insertInto('documents')
        .values({ id: identityId ?? newId('res', now), kind, name, ...values })
        .execute()
  }
  for (const { name, after } of directories) await regrant(trx, name, after?.spec as DirectorySpec | undefined, now)
}

/** Brings the identities table in line with a user or agent document. Returns the identity's id. */
async function project(trx: Write, step: Step, by: string, now: number): Promise<string | undefined> {
  const kind = step.kind as 'user' | 'agent'
  const there = await findIdentity(trx, { name: step.name })
  if (!step.after) {
    if (there && there.state !== 'deleted') await setIdentityState(trx, there.id, 'deleted', now)
    return undefined
  }
  const { roles, traits, owner } = step.after.spec as { roles: readonly string[]; traits: Readonly<Record<string, unknown>>; owner?: string }
  const ownerId = owner === undefined ? undefined : (await findIdentity(trx, { name: owner }))?.id
  const known = there
    ? await updateIdentity(trx, there.id, { roles, traits, ...(ownerId === undefined ? {} : { ownerId }), now })
    : await createIdentity(trx, { kind, name: step.name, roles, traits, source: 'document', now, ...(ownerId === undefined ? {} : { ownerId }) })
  const state = stateSaid(step)
  if (state !== undefined && state !== known.state) await setIdentityState(trx, known.id, state, now, by)
  return known.id
}
