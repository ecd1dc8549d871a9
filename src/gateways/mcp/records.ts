import { createHash } from 'node:crypto'
import type { AuditLog, Draft } from '../../audit/record.ts'
import type { ChaperoneError } from '../../errors.ts'
import { actingIn } from '../../identity/named.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { McpCaller } from './exchange.ts'
import type { McpSession, Server } from './lanes.ts'

/** What stands in the record beside actions: what was never one, and MCP sessions. */
export interface Records {
  /** What was refused before it was an action, with its beginning; the writer masks secrets in it. */
  refused(caller: McpCaller, server: string, error: ChaperoneError, bytes?: Uint8Array): Promise<void>
  /** At the endpoint of all servers a handshake asks nobody, so there is no action. */
  opened(caller: McpCaller, of: McpSession): Promise<void>
  /** By whatever end (peers R76). */
  closed(of: McpSession, why: ChaperoneError): Promise<void>
  /** A list that is shown again asks nobody. */
  shown(caller: McpCaller, list: string, servers: readonly Pick<Server, 'resource'>[]): Promise<void>
}

/** `nameOf`: an identity's name of now. */
export function makeRecords(audit: Pick<AuditLog, 'append'>, nameOf: (identity: string) => string | undefined = () => undefined): Records {
  const append = async (session: LiveSession, connection: { readonly id: string } | undefined, draft: Pick<Draft, 'type' | 'data' | 'bodies'>) => {
    await audit.append({ ...actingIn(session, nameOf), ...(connection ? { connection: connection.id } : {}), ...draft })
  }
  return {
    refused({ session, connection }, server, error, bytes) {
      const digest = bytes && { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
      return append(session, connection, {
        type: 'message.refused',
        data: { reason: error.code, message: error.message, server, ...digest },
        ...(bytes ? { bodies: [{ name: 'message', bytes: bytes.subarray(0, 4096) }] } : {}),
      })
    },
    opened: ({ session, connection }, of) =>
      append(session, connection, { type: 'connection.opened', data: { protocol: 'mcp', resource: of.scope } }),
    closed: ({ session, connection, scope }, { code, message }) =>
      append(session, connection, { type: 'connection.closed', data: { protocol: 'mcp', resource: scope, reason: code, message } }),
    shown: ({ session, connection }, list, servers) =>
      append(session, connection, {
        type: 'server.listed',
        data: { list, again: true, servers: servers.map(({ resource }) => resource.name) },
      }),
  }
}
