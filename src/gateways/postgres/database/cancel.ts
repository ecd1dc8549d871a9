import { once } from 'node:events'
import type { Permit } from '../../../access/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { cancelRequest } from '../wire/write.ts'
import { withDeadline } from './deadline.ts'
import type { Upstream, UpstreamParts } from './open.ts'
import { secureSocket } from './upstream.ts'

/** Asks the server to stop what the connection is doing. The request carries no credential, only the server's own key for that connection. */
export async function cancelUpstream(
  permit: Permit,
  spec: PostgresDatabaseSpec,
  of: Pick<Upstream, 'process' | 'secret'>,
  { ca, clock, connectMs }: UpstreamParts,
): Promise<void> {
  // Not under the permit's signal: when that has aborted, a cancel is most needed.
  await withDeadline(new AbortController().signal, clock, connectMs, async (deadline) => {
    const socket = await secureSocket(spec, permit.action.resource.id, ca, deadline)
    try {
      socket.resume()
      socket.end(cancelRequest(of.process, of.secret))
      await once(socket, 'close', { signal: deadline })
    } finally {
      socket.destroy()
    }
  })
}
