import { createPublicKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { ChaperoneError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import type { Database, Write } from '../../store/store.ts'
import { lookAtInvitation, useInvitation } from '../invitations.ts'
import { addKey, busy, countOf, findKey, fingerprintOf, isRevoked, openSessionsOfKey, stillCounts, wasShown } from './join-keys.ts'
import { KeyCopied } from './key-copied.ts'
import { keyLine, newKeyFix } from './key-line.ts'
import type { Counted, JoinContext, JoinMethod } from './method.ts'
import { JoinRefused, unproven } from './refused.ts'
import { signedText, verifyStatement } from './signed-proof.ts'

const MOST_KEYS = 100
const publicPem = z.string().min(1).max(4096)

export const boundKeySpec = z.strictObject({
  keys: z.array(publicPem).max(MOST_KEYS).default([]).describe('public keys in PEM of the machines that may join: chaperone agent key prints one'),
  register: z
    .boolean()
    .default(false)
    .describe('a join token of the agent (chaperone agent token) also makes a new key known, or gives a known one its recoveries back'),
  recoveries: z
    .union([z.int().min(0).max(100_000), z.literal('unlimited')])
    .default(10)
    .describe('how often a machine may come back after its session has run out'),
})
export type BoundKeySpec = z.infer<typeof boundKeySpec>

const proof = z.strictObject({
  /** PEM of the public half */
  key: publicPem,
  signed: signedText,
  /** a join token, the first time */
  register: z.string().max(256).optional(),
})

/** Node reads the public half out of a private key as well: whoever pastes the wrong file would have it lie in a document that many read. */
const PUBLIC = /^\s*-----BEGIN (?:RSA )?PUBLIC KEY-----/

/** An ordinary public key, in its one encoding; undefined for anything else. RSA under 2048 bits is refused where it verifies. */
function readPublicKey(pem: string): { readonly key: KeyObject; readonly spki: Buffer } | undefined {
  if (!PUBLIC.test(pem)) return undefined
  try {
    const key = createPublicKey(pem)
    const { namedCurve } = key.asymmetricKeyDetails ?? {}
    const type = key.asymmetricKeyType
    if (type !== 'ed25519' && type !== 'rsa' && !(type === 'ec' && namedCurve === 'prime256v1')) return undefined
    return { key, spki: key.export({ type: 'spki', format: 'der' }) }
  } catch {
    return undefined
  }
}

/**
 * A machine that stands somewhere without anybody who would vouch for it: it has a key pair of its own, and both sides count
 * how often it has joined. Of two that hold the same key one brings a count that is over: then the key opens nothing any more.
 */
export const boundKey: JoinMethod<BoundKeySpec, z.infer<typeof proof>> = {
  name: 'bound-key',
  spec: boundKeySpec.prefault({}),
  proof,
  claims: ['key'],
  provableAgain: true,
  faults: ({ keys, register }) => [
    ...keys.flatMap((pem, i) =>
      readPublicKey(pem)
        ? []
        : [{ path: ['keys', i], message: 'This is not a public key in PEM (Ed25519, P-256 or RSA).', fix: 'chaperone agent key prints one.' }],
    ),
    ...(keys.length === 0 && !register
      ? [{ path: [], message: 'No key is known and none can be made known, so nobody could join.', fix: 'Write `keys:`, or `register: true`.' }]
      : []),
  ],
  async prove({ key: pem, signed, register }, spec, context) {
    const refused = (told: string, why: string, fix?: string) =>
      new JoinRefused(told, { why, document: context.document, method: 'bound-key', subject }, fix === undefined ? {} : { fix })
    const key = readPublicKey(pem)
    const subject = key ? fingerprintOf(key.spki) : 'unreadable'
    const stranger = (why: string, cause?: unknown) => unproven(why, { document: context.document, method: 'bound-key', subject }, cause)
    if (!key) throw stranger('the key is no ordinary public key')
    const written = spec.keys.some((one) => readPublicKey(one)?.spki.equals(key.spki))
    const row = await findKey(context.store.db, { ...context, spki: key.spki })
    if (register !== undefined)
      await lookAtToken(context.store.db, register, context).catch((error: unknown) =>
        Promise.reject(stranger('the join token is unknown, used or over', error)),
      )
    else if (!row && !written) throw stranger('this key is not known')
    // Whoever signs with a key of his own has shown nothing; from here on he holds one that is known, or a token for it.
    const { said, once } = await verifyStatement(signed, key.key, context, 'bound-key')
    const { joins } = said
    if (joins === undefined) throw refused('the count is missing.', 'joins')
    if (await isRevoked(context.store.db, key.spki))
      throw refused('this key was shown by two, and opens nothing any more.', 'locked key', newKeyFix(context.document))
    if (register !== undefined && !spec.register) throw refused('keys are not made known by a token here.', 'register is off')
    return {
      subject,
      claims: { key: subject },
      once,
      count: (trx) => count(trx, { key, subject, joins, register, spec, context, refused, written: written === true }),
    }
  },
}

interface Counting {
  readonly key: { readonly spki: Buffer }
  readonly subject: string
  readonly joins: number
  readonly register: string | undefined
  readonly written: boolean
  readonly spec: BoundKeySpec
  readonly context: JoinContext
  refused(told: string, why: string, fix?: string): JoinRefused
}

async function count(trx: Write, { key, subject, joins, register, written, spec, context, refused }: Counting): Promise<Counted> {
  const { now, agentId, document } = context
  const recoveries = spec.recoveries === 'unlimited' ? null : spec.recoveries
  const known = await findKey(trx, { document, agentId, spki: key.spki })
  const madeBy = register === undefined ? (known?.made_by ?? null) : await useToken(trx, register, context)
  if (register === undefined && !known && !written) throw refused('this key is not known.', 'unknown key')
  if (await isRevoked(trx, key.spki)) throw refused('this key was shown by two, and opens nothing any more.', 'locked key', newKeyFix(document))
  // A new row knows of no join: a machine whose document was applied again, or whose row a backup does not have, comes with a count.
  const row = known ?? (await addKey(trx, { document, agentId, spki: key.spki, recoveries, madeBy, now }))
  const open = await openSessionsOfKey(trx, { agentId, subject, now })
  const kind = countOf(row, joins, await wasShown(trx, row))
  if (kind === 'copy')
    throw new KeyCopied(refused('this key was shown by two, and opens nothing any more.', 'copied key', newKeyFix(document)), {
      agentId,
      spki: key.spki,
      subject,
    })
  const recovers = known !== undefined && register === undefined && open.length === 0
  const left = register === undefined ? row.recoveries_left : recoveries
  if (recovers && left !== null && left <= 0)
    throw refused(
      'this machine was away too often.',
      'no recoveries left',
      `An administrator prints the line that lets it in again: ${keyLine(document)}`,
    )
  const next = kind === 'lost' ? row.joins : Math.max(joins, row.joins) + 1
  const session = newId('ses', now)
  // Two nodes may stand here at once (PostgreSQL): whoever is second finds another count, and asks again.
  const { numUpdatedRows } = await trx
    .updateTable('join_keys')
    .set({ joins: next, recoveries_left: recovers && left !== null ? left - 1 : left, made_by: madeBy, newest_session: session, last_used_at: now })
    .where('id', '=', row.id)
    .where('joins', '=', row.joins)
    .where('newest_session', 'is not distinct from', row.newest_session)
    .where('revoked_at', 'is', null)
    .executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) throw busy()
  return {
    joins: next,
    session: { id: session, credential: newId('crd', now), still: (last) => stillCounts(last, { document, agentId, spki: key.spki }, session) },
    // Whether it has begun or not: it may be beginning at this moment, at another node.
    instead: kind === 'lost' && row.newest_session !== null ? [row.newest_session] : [],
    ...(madeBy === null ? {} : { issuerId: madeBy }),
  }
}

async function lookAtToken(db: Database | Write, token: string, { agentId, now }: Pick<JoinContext, 'agentId' | 'now'>) {
  const invitation = await lookAtInvitation(db, token, 'join', now)
  if (invitation.identityId !== agentId) throw new ChaperoneError('invitation_invalid', 'The invitation or join token is unknown, used or expired.')
  return invitation
}

/** Returns who made it. */
async function useToken(trx: Write, token: string, { agentId, now }: JoinContext): Promise<string | null> {
  const invitation = await lookAtToken(trx, token, { agentId, now })
  await useInvitation(trx, token, 'join', now)
  return invitation.createdBy ?? null
}
