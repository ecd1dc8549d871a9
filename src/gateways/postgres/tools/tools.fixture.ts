import { ChaperoneError } from '../../../errors.ts'
import type { Connection, LiveSession } from '../../../identity/types.ts'
import { newId } from '../../../ids.ts'
import type { Rig } from '../rig.fixture.ts'
import { databaseTools } from './databases.ts'
import type { Seat } from './seat.ts'
import type { ToolLimits, ToolResult } from './types.ts'

/** A session whose connections are counted, and can be cut. */
export function sessionOf(name: string, proof: 'mtls' | 'bearer' = 'mtls') {
  const open = new Map<string, AbortController>()
  const connect = (protocol: string): Connection => {
    const id = newId('con')
    const controller = new AbortController()
    open.set(id, controller)
    const assertOpen = () => controller.signal.throwIfAborted()
    return { id, protocol, signal: controller.signal, assertOpen, closed: () => void open.delete(id) }
  }
  const session: LiveSession = {
    id: `ses_${name}`,
    principal: {
      identityId: `agt_${name}`,
      kind: 'agent',
      name,
      credentialId: 'crd',
      sessionId: `ses_${name}`,
      chain: [{ identity: `agt_${name}` }],
      notAfter: 4e12,
      proof,
    },
    startedAt: 0,
    how: 'issue',
    provenUntil: 4e12,
    get open() {
      return open.size
    },
    assertLive() {},
    connect,
  }
  return {
    session,
    /** of a request */
    connection: connect('https'),
    cut: () => {
      for (const controller of open.values()) controller.abort(new ChaperoneError('locked', 'A lock stops this: test.'))
    },
  }
}

export interface Desk {
  readonly seat: Seat
  readonly who: ReturnType<typeof sessionOf>
  call(tool: string, args?: Record<string, unknown>, signal?: AbortSignal): Promise<ToolResult>
}

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
export type Any = any

export const structured = (result: ToolResult): Any => {
  if (result.isError) throw new Error(result.content[0]!.text)
  return result.structuredContent
}
export const textOf = (result: ToolResult): string => result.content.map(({ text }) => text).join('\n')

/** The tools of `prod/shop` as somebody finds them, through the gateway of the rig. */
export function toolsOf(
  rig: Rig,
  more: { readonly users?: readonly string[]; readonly limits?: Partial<ToolLimits>; readonly revision?: () => number } = {},
) {
  return databaseTools({
    guard: rig.guard,
    clock: rig.parts.clock,
    resources: {
      find: rig.parts.resources.find,
      list: rig.parts.resources.list,
      get revision() {
        return more.revision?.() ?? 1
      },
    },
    enter: (who) => rig.gateway.enter(who, 'mcp'),
    usersNamed: () => more.users ?? ['reader', 'writer'],
    ...(more.limits ? { limits: more.limits } : {}),
  })
}

export function sit(tools: ReturnType<typeof toolsOf>, who = sessionOf('boris')): Desk {
  const server = tools.find(who.session, 'prod/shop')
  if (!server) throw new Error('it is not seen')
  const seat = server.open()
  return {
    seat,
    who,
    call: (tool, args = {}, signal = new AbortController().signal) =>
      seat.call({ tool, args, lossy: new Set(), session: who.session, connection: who.connection, signal }),
  }
}
