import type { Guard, Resources } from '../../access/types.ts'
import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { describeMcp } from './describe.ts'
import type { Lane, Server } from './lanes.ts'
import { sessionGone } from './wire.ts'

/** The servers of documents as they are applied now, and what a session is to them. */
export interface Applied {
  named(name: string): Server | undefined
  /** The same server as it is now: another one may have its name. */
  current(server: Server): Server | undefined
  /** False also for who has no live session any more. `id`: of the server */
  isVisible(session: LiveSession, id: string): boolean
  /** Throws why the lane may not go on. */
  assertStays(lane: Lane): void
}

export function appliedServers(resources: Resources, guard: Pick<Guard, 'judge'>): Applied {
  const ping = (session: LiveSession, server: Server) => guard.judge(session, describeMcp(server, { method: 'ping', params: {} }))
  const named = (name: string): Server | undefined => {
    const found = resources.find('mcp', name)
    return found && { resource: found.resource, spec: found.spec as McpServerSpec }
  }
  const current = ({ resource }: Server): Server | undefined => {
    const found = named(resource.name)
    return found?.resource.id === resource.id ? found : undefined
  }
  return {
    named,
    current,
    isVisible(session, id) {
      const found = resources.list('mcp').find(({ resource }) => resource.id === id)
      try {
        return found !== undefined && ping(session, { resource: found.resource, spec: found.spec as McpServerSpec }).visible
      } catch {
        // The session is over: nothing is visible to it.
        return false
      }
    },
    assertStays({ of, server }) {
      if (!current(server)) throw sessionGone('The MCP server is not there any more.')
      const { verdict, reason, message } = ping(of.session, server)
      if (verdict !== 'allow') throw new ChaperoneError(reason, message)
    },
  }
}
