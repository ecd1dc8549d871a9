import type { Permit } from '../../../access/types.ts'
import type { CertificateAuthority } from '../../../ca/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import type { SqlContext } from '../describe.ts'
import { ask, isLockTimeout } from './ask.ts'
import { type CredentialParts, credentialFor } from './credential.ts'
import { unlessAborted, withDeadline } from './deadline.ts'
import { type LoggedIn, logIn } from './login.ts'
import { PROBE, readProbe } from './probe.ts'
import { secureSocket } from './upstream.ts'

export interface UpstreamParts extends CredentialParts {
  readonly ca: Pick<CertificateAuthority, 'issueDatabase' | 'bundle'>
  readonly connectMs: number
}

/** A connection to the database for a client of ours, logged in and idle. */
export interface Upstream extends Omit<LoggedIn, 'frames'> {
  readonly context: Pick<SqlContext, 'path' | 'ceilings' | 'encoding'>
  /** Bytes that came after the login: a notice, the beginning of one. */
  readonly rest: Buffer
}

/** Opens it as the connect permit says, with a credential made for this connection. Throws ChaperoneError. */
export async function openUpstream(
  permit: Permit,
  spec: PostgresDatabaseSpec,
  settings: Readonly<Record<string, string>>,
  parts: UpstreamParts,
): Promise<Upstream> {
  return await withDeadline(permit.signal, parts.clock, parts.connectMs, async (deadline) => {
    const { frames, ...link } = await enter(asOf(permit), spec, settings, parts, deadline)
    try {
      const [row] = await ask(link.socket, frames, PROBE, deadline)
      return { ...link, context: { ...readProbe(row ?? []), encoding: link.parameters.get('server_encoding') ?? 'unknown' }, rest: frames.rest }
    } catch (error) {
      link.socket.destroy()
      throw error
    }
  })
}

/** The server's answers to questions of our own, on a connection that no client touches. */
export interface Questions {
  /** What the server said of itself: `server_version` ... */
  readonly parameters: ReadonlyMap<string, string>
  /** One statement; its rows as texts. A question that is refused ends the connection, unless it was for a lock. Throws ChaperoneError. */
  ask(sql: string): Promise<readonly (readonly (string | null)[])[]>
  close(): void
}

/**
 * A short connection for questions of our own (what a database says of itself, what `db setup` checks), under the same
 * permit and as the same user as the connection that it is for. Read-only, with an empty search_path: names are written in full,
 * and nothing of the user's can stand in for what is asked. `settings` adds to that; `as`: where the permit is for something else.
 */
export async function openQuestions(
  permit: Permit,
  spec: PostgresDatabaseSpec,
  parts: UpstreamParts,
  settings: Readonly<Record<string, string>> = {},
  as: As = asOf(permit),
): Promise<Questions> {
  const pinned = { application_name: 'chaperone', ...settings, search_path: '""', default_transaction_read_only: 'on' }
  const { socket, frames, parameters } = await withDeadline(permit.signal, parts.clock, parts.connectMs, (deadline) =>
    enter(as, spec, pinned, parts, deadline),
  )
  return {
    parameters,
    async ask(sql) {
      try {
        return await withDeadline(permit.signal, parts.clock, parts.connectMs, (deadline) => ask(socket, frames, sql, deadline))
      } catch (error) {
        if (!isLockTimeout(error)) socket.destroy()
        throw error
      }
    },
    close: () => void socket.destroy(),
  }
}

/** Where to come in, and as whom. */
export interface As {
  readonly resourceId: string
  readonly user: string
  readonly database: string
}

function asOf({ action }: Permit): As {
  const { database, user } = action.facts as { database: string; user: string }
  return { resourceId: action.resource.id, user, database }
}

async function enter(
  { resourceId, user, database }: As,
  spec: PostgresDatabaseSpec,
  settings: Readonly<Record<string, string>>,
  parts: UpstreamParts,
  deadline: AbortSignal,
): Promise<LoggedIn> {
  const credential = await unlessAborted(credentialFor({ user, resourceId, spec }, parts), deadline)
  const socket = await secureSocket(spec, resourceId, parts.ca, deadline, credential.certificate)
  try {
    return await logIn(socket, credential, { user, database, ...settings }, deadline)
  } catch (error) {
    socket.destroy()
    throw error
  }
}
