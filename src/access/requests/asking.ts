import { formatDuration } from '../../encoding/duration.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import { reasonFault } from '../../policy/approval.ts'
import type { Policy } from '../../policy/compile.ts'
import { automatic, entriesFor, entryFor, wayOf } from '../../policy/entries.ts'
import type { RequestEntry } from '../../policy/entry.ts'
import { candidates } from '../../policy/match.ts'
import { narrowingOf } from '../../policy/narrowing.ts'
import { didYouMean } from '../../policy/problem.ts'
import type { Link, Resource, Variables } from '../../policy/types.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import type { State } from '../state.ts'
import type { NewRequest } from './book.ts'
import { granted } from './deciding.ts'
import { assertMayAsk } from './limits.ts'
import { TIMES } from './machine.ts'
import { type RequestParts, whoActs } from './parts.ts'
import type { AccessRequest, AccessWish, AskAccess, AskServer, RequestEvent, RequestState, Requests } from './types.ts'

/** A wish for later may be made a moment too late. */
const SLACK_MS = 60_000
/** Of one way; whoever has more is told the first. */
const MOST_RESOURCES = 200

/** How a request begins: as a question, or decided already. */
interface Begun {
  readonly state: RequestState
  readonly event: RequestEvent['type']
  readonly set: Partial<RequestTable>
  /** what decided about it, for the record */
  readonly by?: string
}

const PENDING: Begun = { state: 'pending', event: 'made', set: {} }

export function makeAsking(parts: RequestParts) {
  const { store, book, audit, clock, commit } = parts

  const add = async (session: LiveSession, request: NewRequest, data: Readonly<Record<string, unknown>>, begun: Begun): Promise<AccessRequest> => {
    await assertMayAsk(store.db, request, clock.now())
    const said = { ...whoActs(parts, session), request: request.id, ...(request.purpose === undefined ? {} : { purpose: request.purpose }) }
    await audit.append({
      ...said,
      type: 'request.made',
      data: { request: request.id, kind: request.kind, ...data, reason: request.reason },
      bodies: [{ name: 'asked', bytes: JSON.stringify(request.body) }],
    })
    const { state, by, set } = begun
    if (state !== 'pending') {
      const times = set.starts_at === undefined ? {} : { startsAt: set.starts_at, endsAt: set.ends_at }
      await audit.append({ ...said, type: 'request.decided', data: { request: request.id, kind: request.kind, ...data, state, by, ...times } })
    }
    return commit(begun.event, (trx) => book.add(trx, request, { ...set, state }), { rights: state === 'approved' })
  }

  const ask: Requests['ask'] = async (session, wanted) => {
    session.assertLive()
    const { state, now, links } = situation(parts, session)
    const resource = wanted.resource && state.find(wanted.resource.kind, wanted.resource.name)?.resource
    const { role, forMs: given, breakGlass } = wanted
    const found = entryFor(state.policy, links, {
      role,
      now,
      ...(resource ? { resource } : {}),
      ...(given === undefined ? {} : { forMs: given }),
      ...(breakGlass === undefined ? {} : { breakGlass }),
    })
    if (!found) throw nothingToAsk(role, entriesFor(state.policy, links.at(-1)!, now))
    const { entry, link } = found
    // A resource that the role says nothing about is answered as one that is not there (rule 8).
    if (wanted.resource && !(resource && isAbout(state.policy, role, resource, links, session, now)))
      throw noSuchResource(wanted.resource, resourcesOf(state, role, links, session, now))
    const forMs = given ?? entry.maxMs
    const reason = wanted.reason ?? wanted.purpose ?? session.purpose ?? ''
    // A rule that wants a reason may be met by what the session said long ago: then whoever decides is told so.
    const reasonFrom = wanted.reason !== undefined || reason === '' ? undefined : wanted.purpose === undefined ? 'session' : 'purpose'
    assertFits(entry, wanted, { forMs, reason, now })
    const { id: identityId } = link.identity
    const wish: AccessWish = {
      role,
      forMs,
      ...(resource ? { resource: { kind: resource.kind, id: resource.id, name: resource.name } } : {}),
      ...(wanted.startsAt === undefined ? {} : { startsAt: wanted.startsAt }),
      ...(breakGlass ? { breakGlass } : {}),
      ...(reasonFrom === undefined ? {} : { reasonFrom }),
    }
    const request: NewRequest = {
      id: newId('req', now),
      kind: 'access',
      identityId,
      chain: session.principal.chain,
      body: wish,
      reason,
      purpose: wanted.purpose ?? session.purpose,
      sessionId: session.id,
      needs: [{ approvers: entry.approvers, link: identityId, ...(entry.escalate ? { escalate: entry.escalate } : {}) }],
      role,
      ...(wanted.startsAt === undefined ? {} : { startsAt: wanted.startsAt }),
      ...(resource ? { resourceId: resource.id } : {}),
      expiresAt: now + TIMES.accessPendingMs,
    }
    const { id, startedAt, how, purpose } = session
    const answer = automatic(entry, {
      identity: link.identity,
      session: { id, startedAt, how, ...(purpose === undefined ? {} : { purpose }) },
      now,
      forMs,
      reason,
      resource,
    })
    const data = {
      role,
      forMs,
      ...(resource ? { resource: resource.name } : {}),
      ...(breakGlass ? { breakGlass } : {}),
      ...(reasonFrom === undefined ? {} : { reasonFrom }),
    }
    return add(session, request, data, begun(entry, answer, { ...request, body: wish }, now, breakGlass === true))
  }

  const askServer: Requests['askServer'] = async (session, { wish, reason, purpose }: AskServer) => {
    session.assertLive()
    const now = clock.now()
    const { identityId, chain } = session.principal
    const request: NewRequest = {
      ...{ id: newId('req', now), kind: 'server', identityId, chain, body: wish, reason },
      ...{ purpose: purpose ?? session.purpose, sessionId: session.id, needs: [] },
    }
    return add(session, request, { name: wish.name }, PENDING)
  }

  const ways: Requests['ways'] = (session) => {
    const { state, now, links } = situation(parts, session)
    const link = links.at(-1)!
    const told = new Map(entriesFor(state.policy, link, now).map((entry) => [entry.role, entry]))
    return [...told.values()].map((entry) => ({
      ...wayOf(entry, link),
      resources: resourcesOf(state, entry.role, links, session, now),
    }))
  }

  return { ask, askServer, ways }
}

/** Approved at once by a rule, or taken in an emergency: then nobody is asked, and somebody looks at it afterwards. */
function begun(
  entry: RequestEntry,
  answer: 'approve' | 'refuse' | undefined,
  asked: Pick<NewRequest, 'startsAt'> & { readonly body: AccessWish },
  now: number,
  breakGlass: boolean,
): Begun {
  const by = `${entry.document} request ${entry.index}`
  if (answer === 'refuse') return { state: 'denied', event: 'denied', set: { decided_at: now }, by: `automatic: ${by}` }
  if (answer === 'approve') return { state: 'approved', event: 'approved', set: { decided_at: now, ...granted(asked, now) }, by: `automatic: ${by}` }
  if (!breakGlass) return PENDING
  const set = { decided_at: now, ...granted(asked, now), review_due: now + TIMES.reviewMs }
  return { state: 'approved', event: 'broke_glass', set, by: `break-glass: ${by}` }
}

function situation(
  { state, clock }: RequestParts,
  session: LiveSession,
): { readonly state: State; readonly now: number; readonly links: readonly Link[] } {
  const now = clock.now()
  const current = state.current()
  return { state: current, now, links: current.links(session.principal.chain, now) }
}

/** Whether the role gives, or would ask about, anything on this resource; and no delegation leaves it out: what that does is not there. */
function isAbout(
  policy: Policy,
  role: string,
  resource: Resource,
  links: readonly Link[],
  { id, startedAt, how }: LiveSession,
  now: number,
): boolean {
  const table = policy.roles.get(role)?.kinds.get(resource.kind)
  const link = links.at(-1)
  if (!table || !link) return false
  const vocabulary = policy.vocabularies.get(resource.kind)
  if (links.some(({ limits }) => limits && !narrowingOf(limits).reaches(resource, vocabulary))) return false
  const variables: Variables = { identity: link.identity, session: { id, startedAt, how }, now }
  return [...candidates(table.allow, resource.name), ...candidates(table.ask, resource.name)].some((rule) =>
    rule.selector.selects(resource, variables),
  )
}

/** What the role is about, of all that there is: who may ask for it is told. */
function resourcesOf(
  state: State,
  role: string,
  links: readonly Link[],
  session: LiveSession,
  now: number,
): readonly { readonly kind: string; readonly name: string }[] {
  return [...state.policy.vocabularies.keys()]
    .flatMap((kind) => state.list(kind).map(({ resource }) => resource))
    .filter((resource) => isAbout(state.policy, role, resource, links, session, now))
    .slice(0, MOST_RESOURCES)
    .map(({ kind, name }) => ({ kind, name }))
}

function assertFits(
  entry: RequestEntry,
  { resource, startsAt, breakGlass }: AskAccess,
  { forMs, reason, now }: { readonly forMs: number; readonly reason: string; readonly now: number },
): void {
  const no = (message: string, fix?: string) => new ChaperoneError('usage', message, fix === undefined ? {} : { fix })
  if (entry.named && !resource) throw no(`The role ${entry.role} is given for one resource only.`, 'Name the resource.')
  if (!Number.isSafeInteger(forMs) || forMs <= 0) throw no('The time asked for is no time.')
  if (forMs > entry.maxMs) throw no(`The role ${entry.role} is given for ${formatDuration(entry.maxMs)} at the most.`)
  if (breakGlass && !entry.breakGlass) throw no(`The role ${entry.role} cannot be taken without asking.`)
  if (startsAt !== undefined) {
    if (!Number.isSafeInteger(startsAt) || startsAt < now - SLACK_MS) throw no('The start lies in the past.')
    if (startsAt > now + (entry.startInMs ?? 0) + SLACK_MS)
      throw no(entry.startInMs === undefined ? `The role ${entry.role} begins when it is given.` : 'The start lies too far ahead.')
  }
  const fault = reasonFault(entry.reason, reason)
  if (fault !== undefined) throw no(fault)
}

/** A list of all names helps while it is short. */
const LONGEST_LIST = 12
const SEE = 'See what you may ask for: chaperone requests ways'

function near(word: string, known: readonly string[]): string {
  const { fix } = didYouMean(word.slice(0, 80), known)
  return fix?.startsWith('Did') || (fix !== undefined && known.length <= LONGEST_LIST) ? `${fix} ${SEE}` : SEE
}

const nothingToAsk = (role: string, entries: readonly RequestEntry[]) =>
  new ChaperoneError('not_found', 'There is no such role to ask for.', { fix: near(role, [...new Set(entries.map((entry) => entry.role))]) })

/** Names only what the role is about, so what exists and is not for him is as what does not exist. */
const noSuchResource = ({ kind, name }: NonNullable<AskAccess['resource']>, known: readonly { readonly kind: string; readonly name: string }[]) =>
  new ChaperoneError('not_found', 'There is no such resource to ask for.', {
    fix: near(
      `${kind}/${name}`,
      known.map((one) => `${one.kind}/${one.name}`),
    ),
  })
