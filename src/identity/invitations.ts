import { createHash, randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Database, Write } from '../store/store.ts'
import type { InvitationTable } from '../store/tables-signin.ts'

/** An invitation (a user enrols) or a join token (an agent joins), as it is looked up by its secret. */
export interface OpenInvitation {
  readonly id: string
  readonly kind: InvitationTable['kind']
  readonly identityId: string
  readonly createdBy?: string
  readonly expiresAt: number
}

export interface MakeInvitation {
  readonly kind: InvitationTable['kind']
  readonly identityId: string
  readonly ttlMs: number
  readonly createdBy?: string
  readonly now: number
}

/** How long one may stay open: whoever finds the line later must not be able to use it. */
export const INVITATION_TTL = { shortestMs: 60_000, longestMs: 7 * 24 * 3_600_000, defaultMs: 24 * 3_600_000 } as const

/** 256 random bits as base64url. */
const SECRET = /^[A-Za-z0-9_-]{43}$/

const refused = () =>
  new ChaperoneError('invitation_invalid', 'The invitation or join token is unknown, used or expired.', { fix: 'Ask for a new one.' })

const sha256 = (secret: string) => createHash('sha256').update(secret).digest('hex')

/** Makes one; the secret is returned here and never again: the store keeps its hash only. Throws `usage` for a life out of bounds. */
export async function makeInvitation(
  trx: Write,
  ask: MakeInvitation,
): Promise<{ readonly id: string; readonly secret: string; readonly expiresAt: number }> {
  if (!(ask.ttlMs >= INVITATION_TTL.shortestMs && ask.ttlMs <= INVITATION_TTL.longestMs)) {
    throw new ChaperoneError('usage', 'An invitation lives between a minute and seven days.')
  }
  const secret = randomBytes(32).toString('base64url')
  const id = newId('inv', ask.now)
  const expiresAt = ask.now + ask.ttlMs
  await trx
    .insertInto('invitations')
    .values({
      id,
      kind: ask.kind,
      identity_id: ask.identityId,
      secret_sha256: sha256(secret),
      created_by: ask.createdBy ?? null,
      created_at: ask.now,
      expires_at: expiresAt,
      used_at: null,
    })
    .execute()
  return { id, secret, expiresAt }
}

/** Looks at one without using it up. Throws `invitation_invalid`, the same for unknown, used and expired. */
export async function lookAtInvitation(db: Database | Write, secret: string, kind: InvitationTable['kind'], now: number): Promise<OpenInvitation> {
  if (!SECRET.test(secret)) throw refused()
  const row = await db
    .selectFrom('invitations')
    .selectAll()
    .where('secret_sha256', '=', sha256(secret))
    .where('kind', '=', kind)
    .where('used_at', 'is', null)
    .where('expires_at', '>', now)
    .executeTakeFirst()
  if (!row) throw refused()
  return toOpen(row)
}

/**
 * Uses one up, exactly once: one compare-and-set, so that of two racers one wins, on any node.
 * Throws `invitation_invalid`. When the transaction is rolled back, the invitation is open again.
 */
export async function useInvitation(trx: Write, secret: string, kind: InvitationTable['kind'], now: number): Promise<OpenInvitation> {
  if (!SECRET.test(secret)) throw refused()
  const row = await trx
    .updateTable('invitations')
    .set({ used_at: now })
    .where('secret_sha256', '=', sha256(secret))
    .where('kind', '=', kind)
    .where('used_at', 'is', null)
    .where('expires_at', '>', now)
    .returningAll()
    .executeTakeFirst()
  if (!row) throw refused()
  return toOpen(row)
}

function toOpen(row: InvitationTable): OpenInvitation {
  return {
    id: row.id,
    kind: row.kind,
    identityId: row.identity_id,
    ...(row.created_by === null ? {} : { createdBy: row.created_by }),
    expiresAt: row.expires_at,
  }
}

/** What the one line carries: where to go, what to say there, and whom to believe. */
export interface InvitationLine {
  /** `host:port`; IPv6 in brackets */
  readonly address: string
  readonly secret: string
  /** sha256 hex of the server authority's SubjectPublicKeyInfo */
  readonly fingerprint: string
}

/** `chaperone://<host:port>/<secret>?ca=<sha256 hex>` */
export function formatInvitation({ address, secret, fingerprint }: InvitationLine): string {
  return `chaperone://${address}/${secret}?ca=${fingerprint}`
}

/** The same for a browser. The secret stands behind the #: browsers send that to nobody, so it is in no request line and no log. */
export const enrolLink = (web: string, secret: string): string => `https://${web}/enrol#${secret}`

const LINE =
  /^chaperone:\/\/(?<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?<port>\d{1,5})\/(?<secret>[A-Za-z0-9_-]{43})\?ca=(?<fingerprint>[0-9a-f]{64})$/

/** Reads the line, strictly: a pasted line that lost a character is refused here and not by a puzzled server. Throws `invitation_invalid`. */
export function parseInvitation(text: string): InvitationLine {
  const groups = text.length <= 512 ? LINE.exec(text.trim())?.groups : undefined
  const { host, port, secret, fingerprint } = groups ?? {}
  if (!host || !port || !secret || !fingerprint || !isPort(port) || (host.startsWith('[') && isIP(host.slice(1, -1)) !== 6)) {
    throw new ChaperoneError('invitation_invalid', 'This is not an invitation: it looks like chaperone://host:port/secret?ca=hash.', {
      fix: 'Copy the whole line, without spaces or line breaks.',
    })
  }
  return { address: `${host}:${port}`, secret, fingerprint }
}

const SERVER = /^chaperone:\/\/(?<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?<port>\d{1,5})\/?\?ca=(?<fingerprint>[0-9a-f]{64})$/

/** `chaperone://<host:port>?ca=<sha256 hex>`: where a server is and whom to believe there. It is no secret. */
export const formatServer = ({ address, fingerprint }: Omit<InvitationLine, 'secret'>): string => `chaperone://${address}?ca=${fingerprint}`

/** Reads such a line; undefined when it is something else. */
export function parseServer(text: string): Omit<InvitationLine, 'secret'> | undefined {
  const { host, port, fingerprint } = (text.length <= 512 ? SERVER.exec(text.trim())?.groups : undefined) ?? {}
  return host && port && fingerprint && isPort(port) ? { address: `${host}:${port}`, fingerprint } : undefined
}

const isPort = (text: string) => Number(text) >= 1 && Number(text) <= 65_535
