import { limitsOfChain } from '../identity/session-limits.ts'
import type { ChainLink } from '../identity/types.ts'
import type { Link } from '../policy/types.ts'
import type { SessionTable } from '../store/tables.ts'
import type { SessionDetail } from './contract.ts'
import type { ApiParts } from './parts.ts'

/** What it did last. */
const ACTIONS = 10

/** All that an incident responder asks of a session: who acts for whom, on what, since when, what was done, what ends it. */
export async function sessionDetail(
  parts: Pick<ApiParts, 'store' | 'state' | 'sessions' | 'clock'>,
  row: SessionTable,
  reads: boolean,
): Promise<SessionDetail> {
  const { store, state, sessions, clock } = parts
  const current = state.current()
  const ids = [...(JSON.parse(row.chain) as readonly ChainLink[]).map(({ identity }) => identity), ...(row.issuer_id === null ? [] : [row.issuer_id])]
  const names = new Map(
    (await store.db.selectFrom('identities').select(['id', 'name']).where('id', 'in', ids).execute()).map(({ id, name }) => [id, name]),
  )
  const nameOf = (id: string) => names.get(id) ?? id
  const chain = JSON.parse(row.chain) as readonly ChainLink[]
  const links = linksOf()
  const open = sessions.connections(row.id)
  return {
    id: row.id,
    identity: nameOf(row.identity_id),
    how: row.how,
    ...(row.client === null ? {} : { client: row.client }),
    ...(row.purpose === null ? {} : { purpose: row.purpose }),
    ...(row.issuer_id === null ? {} : { issuer: nameOf(row.issuer_id) }),
    startedAt: row.started_at,
    expiresAt: row.expires_at,
    ...(row.last_used_at === null ? {} : { lastUsedAt: row.last_used_at }),
    connections: open.length,
    chain: chain.map(({ identity }) => nameOf(identity)),
    open: open.map(({ id, protocol, since, credentialId }) => ({
      id,
      protocol,
      ...(since === undefined ? {} : { since }),
      ...(credentialId === undefined ? {} : { credential: credentialId }),
    })),
    actions: reads ? await lastActions() : [],
    grants: (links.at(-1)?.grants ?? []).map(({ role, resourceId, until, request }) => ({
      role,
      until,
      request,
      ...(resourceId === undefined ? {} : { resource: resourceNamed(resourceId) }),
    })),
    limits: limitsOfChain(current.policy, links),
  }

  /** None when a link is disabled: then it can do nothing, and that is what is shown. */
  function linksOf(): readonly Link[] {
    try {
      return current.links(chain, clock.now())
    } catch {
      return []
    }
  }

  function resourceNamed(id: string): string {
    for (const kind of ['mcp', 'postgres']) for (const { resource } of current.list(kind)) if (resource.id === id) return `${kind}/${resource.name}`
    return id
  }

  async function lastActions(): Promise<SessionDetail['actions']> {
    const rows = await store.db
      .selectFrom('audit_leaves')
      .select(['id', 'at', 'type', 'leaf'])
      .where('session_id', '=', row.id)
      .where('type', 'in', ['action.intent', 'action.refused', 'action.asked'])
      .orderBy('at', 'desc')
      .limit(ACTIONS)
      .execute()
    return rows.map(({ id, at, type, leaf }) => {
      const { action, decision } = JSON.parse(Buffer.from(leaf).toString()) as {
        action?: { summary?: string; resource?: { name?: string } }
        decision?: { verdict?: string; reason?: string }
      }
      return {
        id,
        at,
        summary: action?.summary ?? '',
        ...(action?.resource?.name === undefined ? {} : { resource: action.resource.name }),
        verdict: verdictIn(type, decision),
      }
    })
  }
}

/** A call that had to be asked for and was sent on was approved: its record says that it was asked. */
function verdictIn(type: string, { verdict = '', reason }: { readonly verdict?: string; readonly reason?: string } = {}): string {
  if (verdict === 'deny') return reason ?? verdict
  return verdict === 'ask' && type === 'action.intent' ? 'approved' : verdict
}
