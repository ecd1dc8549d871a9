import type { Masker } from '../../audit/mask.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { State } from '../state.ts'
import { type Asker, isOwn, standingOf, type Voter } from './approvers.ts'
import { sha256 } from './binding.ts'
import { noSuchRequest, type RequestParts } from './parts.ts'
import type { AccessRequest, RequestFilter, Requests, Seen, Standing, Vote, Wished } from './types.ts'

/**
 * sha256 hex of what somebody is shown who decides: another text, other needs, and he has not seen it (peers R47). `says`: what the
 * role that is asked for says (`saysOf`); the rules that ask about a call are named in its body by their digests.
 */
export const seenOf = ({ id, kind, identityId, chain, body, reason, purpose, needs }: AccessRequest, says: unknown): string =>
  sha256(canonicalJson({ id, kind, identityId, chain, body, reason, purpose: purpose ?? null, needs, says: says ?? null }))

/** The role that is asked for, as it is applied now: its approver reads it, and his yes is to that. Undefined: it is about none. */
const saysOf = (state: Pick<State, 'find'>, { kind, body }: Wished): unknown => (kind === 'access' ? state.find('role', body.role)?.spec : undefined)

/** A vote about what the role said at another time is none about what it says now. */
export const isOutdated = ({ seen }: Vote, now: string): boolean => seen !== undefined && seen !== now

/**
 * Whose request it is to look at, and to take back. A person by himself sees all that is asked for him. What acts for somebody sees
 * what was asked in its own chain: what the same agent asks on behalf of another person is that person's.
 */
function isAbout({ principal }: LiveSession, asker: Asker): boolean {
  const { kind, chain, identityId } = principal
  if (kind === 'user' && chain.length === 1) return isOwn(asker, identityId)
  return chain.every((link, i) => asker.chain[i]?.identity === link.identity)
}

export interface Looked {
  readonly request: AccessRequest
  readonly asker: Asker
  readonly voter: Voter | undefined
  readonly standing: Standing
  /** what the role says that is asked for, and `seenOf` with it */
  readonly says: unknown
  readonly seen: string
  /** he may see it */
  readonly visible: boolean
  /** he asked, or it was asked for him: he may take it back */
  readonly his: boolean
  /** He who asked, and who says yes or no, read every word; who only watches reads it as it stands in the record. */
  readonly whole: boolean
}

export function makeSeeing(parts: RequestParts) {
  const { book, voters, clock } = parts

  /** The one who looks: a person by himself has his own say; what acts for him has none. */
  const lookerOf = ({ principal, startedAt, how }: LiveSession): Voter | undefined => {
    const found = voters.voter(principal.identityId, { startedAt, how })
    return found && { ...found, links: principal.chain.length }
  }

  const seesAll = ({ principal, startedAt, how }: LiveSession): boolean =>
    principal.chain.length === 1 &&
    (['approve', 'audit.read', 'lock'] as const).some((verb) => voters.holds(principal.identityId, verb, { startedAt, how }))

  const maySeeServers = ({ principal, startedAt, how }: LiveSession): boolean =>
    principal.chain.length === 1 && voters.mayAsk(principal.identityId, 'apply', { startedAt, how })

  const look = (session: LiveSession, voter: Voter | undefined, asker: Asker, request: AccessRequest, all: boolean, applies: boolean): Looked => {
    const { identityId } = session.principal
    const server = request.kind === 'server'
    const own = isOwn(asker, identityId)
    const able: Standing = server
      ? serverStanding(asker, session, parts.state.current().identity(identityId)?.owner_id ?? null, applies)
      : voter
        ? standingOf(asker, request.needs, voter, request.escalatedAt !== undefined)
        : { own, confirms: false, no: 'Your identity is disabled or locked.' }
    const over = request.state !== 'pending' || (request.expiresAt !== undefined && request.expiresAt <= clock.now())
    const says = saysOf(parts.state.current(), request)
    const seen = seenOf(request, says)
    const voted = request.votes.some((vote) => vote.identityId === identityId && !isOutdated(vote, seen))
    const his = isAbout(session, asker)
    const no = over ? overInWords(request) : voted ? 'You have said yes to it already; somebody else has to as well.' : able.no
    const standing = { own: able.own, confirms: able.confirms, ...(no === undefined ? {} : { no }) }
    const whole = his || able.no === undefined || voted
    return { request, asker, voter, standing, says, seen, visible: whole || all, his, whole }
  }

  const lookAt = async (session: LiveSession, requests: readonly AccessRequest[]): Promise<readonly Looked[]> => {
    const askerOf = await voters.askers(requests)
    const voter = lookerOf(session)
    const [all, applies] = [seesAll(session), maySeeServers(session)]
    return requests.map((request) => look(session, voter, askerOf(request), request, all, applies))
  }

  return {
    lookAt,

    /** Throws `not_found`, also for what he may not see (rule 8). */
    async one(session: LiveSession, id: string): Promise<Looked> {
      const request = await book.find(id)
      const looked = request && (await lookAt(session, [request]))[0]
      if (!looked?.visible) throw noSuchRequest()
      return looked
    },

    async list(session: LiveSession, filter: RequestFilter): ReturnType<Requests['list']> {
      const { state, kind, mine, limit } = filter
      const { identityId: of, kind: who, chain } = session.principal
      // What the others asked whom the same agent acts for would push its own out of the list.
      const within = who === 'user' && chain.length === 1 ? {} : { within: chain }
      const wanted = { ...(kind === undefined ? {} : { kind }), ...(limit === undefined ? {} : { limit }) }
      const own = mine === 'to_decide' ? [] : await book.list({ ...wanted, ...(state === undefined ? {} : { state }), of, ...within })
      // What waits is looked through whole, whoever asked: what he may decide about must not be hidden behind what is over.
      const waiting =
        mine === 'asked' || (state !== undefined && state !== 'pending') ? [] : await book.list({ ...(kind ? { kind } : {}), state: 'pending' })
      const rest = mine === undefined ? await book.list({ ...wanted, ...(state === undefined ? {} : { state }) }) : []
      const each = new Map([...own, ...waiting, ...rest].map((request) => [request.id, request]))
      const looked = (await lookAt(session, [...each.values()])).filter(
        ({ visible, his, standing }) => visible && (mine !== 'to_decide' || standing.no === undefined) && (mine !== 'asked' || his),
      )
      return looked
        .map((one) => shownTo(one, parts.masker))
        .sort((a, b) => (a.id < b.id ? 1 : -1))
        .slice(0, limit)
    },
  }
}

export type Seeing = ReturnType<typeof makeSeeing>

/** A request as it is given out. */
export const shownTo = ({ request, standing, says, seen, whole }: Looked, masker: Pick<Masker, 'text'>): Seen => ({
  ...(whole ? request : watched(request, masker)),
  standing,
  seen,
  ...(says === undefined ? {} : { says }),
  votes: request.votes.map((vote) => (request.state === 'pending' && isOutdated(vote, seen) ? { ...vote, outdated: true as const } : vote)),
})

function watched(request: AccessRequest, masker: Pick<Masker, 'text'>): AccessRequest {
  if (request.kind !== 'call') return request
  const shown = request.body.shown.map((part) => (part.form === 'exact' ? { ...part, text: masker.text(part.text).value } : part))
  return { ...request, body: { ...request.body, shown } }
}

const overInWords = ({ state }: AccessRequest): string =>
  state === 'pending' ? 'It is over: nobody answered in time.' : `It is ${state === 'unknown' ? 'over' : state} already.`

/**
 * To add a server needs the verb `apply`. Nobody decides about his own wish, nor agents of one person about each other; the
 * person himself may say yes to what his agent wants: the agent cannot give the factor that this needs.
 */
function serverStanding(asker: Asker, { principal }: LiveSession, ownerId: string | null, applies: boolean): Standing {
  const { identityId: id, chain, kind } = principal
  const own = isOwn(asker, id)
  if (!applies) return { own, confirms: false, no: 'Others decide about it: whoever may apply documents.' }
  const his = asker.identityId === id || chain.length !== 1 || (kind !== 'user' && (own || (ownerId !== null && isOwn(asker, ownerId))))
  return his ? { own, confirms: false, no: 'Nobody decides about his own request.' } : { own, confirms: own }
}
