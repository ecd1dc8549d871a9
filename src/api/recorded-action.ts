import type { RecordDetail } from '../audit/query.ts'
import type { Envelope } from '../audit/record.ts'
import { type ReasonCode, toChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import type { ChainLink } from '../identity/types.ts'
import type { Action, Effect, Link, Question } from '../policy/types.ts'
import { chainOf } from './explain.ts'
import type { ApiParts } from './parts.ts'

/** Refusals that roles and guardrails made; behind any other stands something that no rule changes. */
export const BY_RULES: ReadonlySet<ReasonCode> = new Set([
  'no_rule',
  'denied_by_rule',
  'denied_by_guardrail',
  'delegation_exceeded',
  'approval_required',
  'approval_unavailable',
  'not_understood',
  'policy_error',
])

/** A record of an action, with what lies beside it. */
export type RecordedCall = Pick<RecordDetail, 'envelope' | 'bodies'>

/** The action as it was judged, on the resource as it is now; or why it cannot be had. */
export function actionIn({ state, chaperone }: ApiParts, { envelope, bodies }: RecordedCall): Action | string {
  const { kind, operation, effects, summary, via, facts = {}, unclear, resource: named } = envelope.action!
  const current = state.current()
  const resource = named.id === chaperone.id ? chaperone : current.list(kind).find(({ resource }) => resource.id === named.id)?.resource
  if (!resource) return `${kind}/${named.name} is not there any more, so nothing about it can be judged.`
  const whole = new Set((envelope.bodies ?? []).flatMap(({ name, cut, masked }) => (cut || masked ? [] : [name])))
  const texts = new Map(bodies.flatMap(({ name, bytes }) => (bytes && whole.has(name) ? [[name, Buffer.from(bytes).toString()] as const] : [])))
  // A name that was masked is another one, and would be judged as such.
  const isWhole = !JSON.stringify(facts).includes('[masked:')
  const recalled = isWhole && current.policy.vocabularies.get(kind)?.recalled?.({ operation, facts, texts })
  if (!recalled && unclear === undefined)
    return 'The record does not hold all that rules read of this action (it is older than that, or was cut, masked or erased), so it cannot be judged again.'
  const partial = current.policy.vocabularies.get(kind)?.wasPartial?.({ operation, facts }) === true
  return {
    ...(partial ? { partial } : {}),
    kind,
    operation,
    effects: effects as readonly Effect[],
    summary,
    resource,
    facts: recalled || {},
    ...(via === undefined ? {} : { via }),
    ...(unclear === undefined ? {} : { unclear }),
  }
}

/** The chain of the record with the roles of today and without granted ones; a delegation that has ended since is taken as the one that holds now. */
export async function linksOf(parts: ApiParts, { chain, actor, at, action }: Envelope): Promise<readonly Link[] | string> {
  const recorded = (chain ?? (actor ? [actor] : [])).map(
    ({ id, delegation }: { readonly id: string; readonly delegation?: string }): ChainLink =>
      delegation === undefined ? { identity: id } : { identity: id, delegation },
  )
  const linksIn = (links: readonly ChainLink[], now: number) => {
    const found = action?.kind === 'chaperone' ? parts.state.current().administering(links, now) : parts.state.current().links(links, now)
    // What is granted today was not granted then, and what was granted then is over.
    return found.map(({ grants, ...link }) => link)
  }
  if (recorded.length === 0) return 'The record does not say who acted.'
  try {
    await parts.state.see(recorded)
    return linksIn(recorded, at)
  } catch {
    // Ended or disabled since: asked once more as it is now, which says what is in the way.
  }
  try {
    const now = await findIdentity(parts.store.db, { id: recorded.at(-1)!.identity })
    const again = await chainOf(parts, now?.name ?? '')
    return linksIn(again, parts.clock.now())
  } catch (error) {
    return `It cannot be judged again as whoever acted: ${toChaperoneError(error).message}`
  }
}

export async function sessionOf({ store }: ApiParts, { session = '', at, purpose }: Envelope): Promise<Question['session']> {
  const row = await store.db.selectFrom('sessions').select(['started_at', 'how']).where('id', '=', session).executeTakeFirst()
  return { id: session, startedAt: row?.started_at ?? at, how: row?.how ?? 'login', ...(purpose === undefined ? {} : { purpose }) }
}

export function documentsOf({ state }: ApiParts) {
  const specs = (kind: string) =>
    state
      .current()
      .list(kind)
      .map(({ resource, spec }) => ({ name: resource.name, spec }))
  return { roles: specs('role'), guardrails: specs('guardrail') }
}
