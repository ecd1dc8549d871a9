import { searchRecords } from '../audit/query.ts'
import type { Envelope } from '../audit/record.ts'
import type { LiveSession } from '../identity/types.ts'
import { actorOf, holds } from './caller.ts'
import type { ApiParts } from './parts.ts'
import type { RequestBefore, RequestDetail } from './requests-contract.ts'
import type { SeenRequest } from './requests-rows.ts'

/** Of one request; and how many records are read for them: others lie between. */
const SHOWN = 10
const READ = 100

const ACTIONS: ReadonlySet<Envelope['type']> = new Set(['action.intent', 'action.refused', 'action.asked'])

/**
 * What the session that asks has done so far. Who may read the record sees all of it. Who may decide sees what was done on the
 * resource that he decides about, and no names of others (rule 8). That somebody looked is a record, as with every look.
 */
export async function beforeOf(
  parts: Pick<ApiParts, 'audit' | 'chaperone' | 'guard' | 'store'>,
  session: LiveSession,
  request: SeenRequest,
): Promise<RequestDetail['before']> {
  if (request.sessionId === undefined) return undefined
  const all = holds(parts, session)('audit.read')
  const resource = resourceOf(request)
  const decides = request.state === 'pending' && request.standing.no === undefined
  if (!all && (!decides || resource === undefined)) return undefined
  const of = all ? 'session' : 'resource'
  await parts.audit.append({ ...actorOf(session), type: 'audit.read', data: { op: 'request', request: request.id, session: request.sessionId, of } })
  const { rows, next } = await searchRecords(parts.store.db, {
    session: request.sessionId,
    ...(all || resource === undefined ? {} : { resource }),
    limit: READ,
  })
  const actions = rows.flatMap(({ envelope, outcome }): RequestBefore[] => {
    const { id, at, type, action, decision, request: about } = envelope
    if (!ACTIONS.has(type) || !action || !decision || about === request.id) return []
    return [
      {
        id,
        at,
        action: action.summary,
        resource: `${action.resource.kind ?? action.kind}/${action.resource.name}`,
        verdict: decision.verdict,
        ...(outcome ? { outcome: outcome.status } : {}),
      },
    ]
  })
  return { actions: actions.slice(0, SHOWN), of, more: actions.length > SHOWN || next !== undefined }
}

function resourceOf({ kind, body }: SeenRequest): string | undefined {
  if (kind === 'call') return body.resource.id
  return kind === 'access' ? body.resource?.id : undefined
}
