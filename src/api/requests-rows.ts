import { createHash } from 'node:crypto'
import { stringify } from 'yaml'
import { whoDecides } from '../access/requests/approvers.ts'
import type { Seen } from '../access/requests/types.ts'
import { askedInWords, askedOf } from '../access/requests/words.ts'
import { readably } from '../gateways/postgres/asking/laid-out.ts'
import { inReadingOrder } from '../policy/reading-order.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { ServerWish } from './mcp-contract.ts'
import type { ApiParts } from './parts.ts'
import type { RequestRow, ShownPart } from './requests-contract.ts'

export type SeenRequest = Seen
export type RowParts = Pick<ApiParts, 'store' | 'state' | 'link'>

/** Requests as the API shows them; the names of everybody in them are looked up at once. */
export async function rowsOf(parts: RowParts, requests: readonly SeenRequest[]): Promise<readonly RequestRow[]> {
  const nameOf = await namesOf(
    parts,
    requests.flatMap((one) => [
      one.identityId,
      ...one.chain.map(({ identity }) => identity),
      ...one.votes.map(({ identityId }) => identityId),
      ...[one.decidedBy, one.reviewedBy].filter((id) => id !== undefined),
    ]),
  )
  return requests.map((one) => rowOf(one, nameOf, parts.link(one.id)))
}

const MOST_SHOWN = 32 * 1024

/** What there is to be read before a yes: the call as it will run, or what the role that is asked for says; `seen` is bound to both. */
export async function shownOf({ kind, body, says }: SeenRequest): Promise<readonly ShownPart[]> {
  if (kind === 'call') return readably(body.shown)
  if (kind !== 'access' || says === undefined) return []
  const { role } = body
  const text = stringify(inReadingOrder(says)).trimEnd()
  const cut = { size: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') }
  return [{ title: `What role ${role} says`, form: 'text', text: text.slice(0, MOST_SHOWN), ...(text.length > MOST_SHOWN ? { cut } : {}) }]
}

/** Also of who is disabled or deleted by now. */
async function namesOf({ store, state }: RowParts, ids: readonly string[]): Promise<(id: string) => string> {
  const current = state.current()
  const names = new Map<string, string>()
  const gone: string[] = []
  for (const id of new Set(ids)) {
    const row = current.identity(id)
    if (row) names.set(id, row.name)
    else gone.push(id)
  }
  // A statement has a limited number of parameters.
  for (let at = 0; at < gone.length; at += 500) {
    const rows = await store.db
      .selectFrom('identities')
      .select(['id', 'name'])
      .where('id', 'in', gone.slice(at, at + 500))
      .execute()
    for (const { id, name } of rows) names.set(id, name)
  }
  return (id) => names.get(id) ?? id
}

function rowOf(one: SeenRequest, nameOf: (id: string) => string, url: string): RequestRow {
  const { id, kind, state, reason, purpose, createdAt, updatedAt, standing, seen } = one
  return {
    id,
    kind,
    state,
    ...about(one),
    by: nameOf(one.identityId),
    chain: one.chain.map(({ identity }) => nameOf(identity)),
    reason,
    ...reasonFrom(one),
    ...(purpose === undefined ? {} : { purpose }),
    ...(one.sessionId === undefined ? {} : { session: one.sessionId }),
    approvers: whoDecides(one),
    votes: one.votes.map(({ identityId, seen: _, ...vote }) => ({ by: nameOf(identityId), ...vote })),
    createdAt,
    updatedAt,
    ...(one.expiresAt === undefined ? {} : { expiresAt: one.expiresAt }),
    ...(one.startsAt === undefined ? {} : { startsAt: one.startsAt }),
    ...(one.endsAt === undefined ? {} : { endsAt: one.endsAt }),
    ...(one.decidedBy === undefined ? {} : { decidedBy: nameOf(one.decidedBy) }),
    ...(one.decidedAt === undefined ? {} : { decidedAt: one.decidedAt }),
    ...(one.escalatedAt === undefined ? {} : { escalatedAt: one.escalatedAt }),
    ...(one.reviewDue === undefined ? {} : { reviewDue: one.reviewDue }),
    ...(one.reviewedBy === undefined ? {} : { reviewedBy: nameOf(one.reviewedBy) }),
    ...(one.outcome === undefined ? {} : { outcome: one.outcome }),
    standing,
    seen,
    url,
  }
}

/** A call brings no reason along: it is what its session is for. */
function reasonFrom({ kind, body, reason }: SeenRequest): Pick<RequestRow, 'reasonFrom'> {
  const from = kind === 'call' && reason !== '' ? 'session' : kind === 'access' ? body.reasonFrom : undefined
  return from === undefined ? {} : { reasonFrom: from }
}

function about(request: SeenRequest): Pick<RequestRow, 'summary' | 'resource' | 'access' | 'call' | 'wish'> {
  const { kind, body, below } = request
  if (kind === 'server') {
    // As the API checked it when it was asked for.
    return { summary: askedInWords(askedOf(request)), wish: body as unknown as ServerWish }
  }
  if (kind === 'access') {
    const { role, resource, forMs, breakGlass } = body
    const name = resource && `${resource.kind}/${resource.name}`
    return {
      summary: askedInWords(askedOf(request)),
      ...(name === undefined ? {} : { resource: name }),
      access: { role, forMs, below, ...(breakGlass ? { breakGlass } : {}) },
    }
  }
  const { summary, resource, kind: vocabulary, operation, effects, message, rules } = body
  return {
    summary,
    resource: `${vocabulary}/${resource.name}`,
    // Along a chain one rule may ask for several links.
    call: { kind: vocabulary, operation, effects, message, rules: [...new Set(rules.map(ruleTitle))] },
  }
}
