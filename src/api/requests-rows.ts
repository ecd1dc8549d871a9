import { createHash } from 'node:crypto'
import { stringify } from 'yaml'
import { inWords } from '../access/requests/approvers.ts'
import type { AccessRequest, AccessWish, CallWish, Standing } from '../access/requests/types.ts'
import { formatDuration } from '../encoding/duration.ts'
import type { RuleRef } from '../policy/types.ts'
import type { ServerWish } from './contract.ts'
import type { ApiParts } from './parts.ts'
import type { RequestRow } from './requests-contract.ts'

export type SeenRequest = AccessRequest & { readonly standing: Standing; readonly seen: string }
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

/** What there is to be read before a yes: the call as it will run, or what the role that is asked for says today. */
export async function shownOf({ store }: Pick<RowParts, 'store'>, { kind, body }: SeenRequest): Promise<CallWish['shown']> {
  if (kind === 'call') return (body as CallWish).shown
  if (kind !== 'access') return []
  const { role } = body as AccessWish
  const row = await store.db.selectFrom('documents').select('spec').where('kind', '=', 'role').where('name', '=', role).executeTakeFirst()
  if (!row) return []
  const text = stringify(JSON.parse(row.spec)).trimEnd()
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
    ...(purpose === undefined ? {} : { purpose }),
    ...(one.sessionId === undefined ? {} : { session: one.sessionId }),
    approvers: kind === 'server' ? 'whoever may apply' : inWords(one.needs),
    votes: one.votes.map(({ identityId, ...vote }) => ({ by: nameOf(identityId), ...vote })),
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

function about({ kind, body, below }: SeenRequest): Pick<RequestRow, 'summary' | 'resource' | 'access' | 'call' | 'wish'> {
  if (kind === 'server') {
    const wish = body as ServerWish
    return { summary: `MCP server ${wish.name}`, wish }
  }
  if (kind === 'access') {
    const { role, resource, forMs, breakGlass } = body as AccessWish
    const name = resource && `${resource.kind}/${resource.name}`
    return {
      summary: `role ${role}${name === undefined ? '' : ` on ${name}`} for ${formatDuration(forMs)}`,
      ...(name === undefined ? {} : { resource: name }),
      access: { role, forMs, below, ...(breakGlass ? { breakGlass } : {}) },
    }
  }
  const { summary, resource, kind: vocabulary, operation, effects, message, rules } = body as CallWish
  return {
    summary,
    resource: `${vocabulary}/${resource.name}`,
    call: { kind: vocabulary, operation, effects, message, rules: [...new Set(rules.map(ruleText))] },
  }
}

/** Along a chain one rule may ask for several links. */
const ruleText = ({ kind, document, section, index }: RuleRef): string => `${kind} ${document}, ${section} rule ${index + 1}`
