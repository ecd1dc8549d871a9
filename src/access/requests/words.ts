import { formatDuration } from '../../encoding/duration.ts'
import type { Wished } from './types.ts'

/** What is asked for, as far as it is needed to say it. `resource` of a call stands for itself in most places. */
export interface Asked {
  readonly kind: Wished['kind']
  /** of a call */
  readonly summary?: string | undefined
  /** of access, and `forMs` of it */
  readonly role?: string | undefined
  readonly forMs?: number | undefined
  /** the MCP server that is wished for */
  readonly server?: string | undefined
  readonly resource?: { readonly kind: string; readonly name: string } | undefined
}

export function askedOf({ kind, body }: Wished): Asked {
  if (kind === 'server') return { kind, server: body.name }
  if (kind === 'access') return { kind, role: body.role, forMs: body.forMs, resource: body.resource }
  return { kind, summary: body.summary, resource: { kind: body.kind, name: body.resource.name } }
}

/** In a list: `role admin on postgres/prod for 10m`, `MCP server files`, `SELECT public.orders on postgres/prod`. */
export function askedInWords({ kind, summary, role, forMs, server, resource }: Asked): string {
  const at = resource === undefined ? '' : ` on ${resource.kind}/${resource.name}`
  if (kind === 'server') return `MCP server ${server}`
  if (kind === 'call') return `${summary}${at}`
  return `role ${role}${at}${forMs === undefined ? '' : ` for ${formatDuration(forMs)}`}`
}

/** In a sentence: `the role admin ...`. */
export const askedInSentence = (asked: Asked): string => (asked.kind === 'call' ? askedInWords(asked) : `the ${askedInWords(asked)}`)
