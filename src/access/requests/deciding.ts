import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Write } from '../../store/store.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import { type Asker, areMet, type Voter, whoDecides } from './approvers.ts'
import { assertHimself, refused } from './himself.ts'
import { LONGEST_NOTE } from './limits.ts'
import { next, shortest, TIMES } from './machine.ts'
import { overAlready, type RequestParts, whoActs } from './parts.ts'
import { isOutdated, type Looked, type Seeing } from './seeing.ts'
import type { AccessRequest, AccessWish, Decide } from './types.ts'

/** One vote about a request, and what it comes to. */
export function makeDeciding(
  parts: RequestParts,
  seeing: Seeing,
  mayGrant: (looked: Looked, people: readonly Voter[]) => ChaperoneError | undefined,
) {
  const { store, book, voters, audit, clock, commit, state } = parts

  return async (session: LiveSession, id: string, ask: Decide): Promise<AccessRequest> => {
    const looked = await seeing.one(session, id)
    const { request, asker, standing } = looked
    const { identityId } = session.principal
    const summary = `${ask.verdict} ${id}`
    if (request.state !== 'pending' || (request.expiresAt ?? Number.POSITIVE_INFINITY) <= clock.now()) throw overAlready(request)
    if (request.votes.some((vote) => vote.identityId === identityId && !isOutdated(vote, looked.seen)))
      throw new ChaperoneError('conflict', 'You have said yes to it already.')
    if (standing.no !== undefined)
      throw await refused(
        parts,
        session,
        'approve',
        summary,
        new ChaperoneError('approval_refused', standing.no, { fix: `Who decides: ${whoDecides(request)}.` }),
      )
    // A pipeline that applies what was wished for decides about the wish; about everything else a person does.
    if (request.kind !== 'server' || session.principal.kind === 'user') await assertHimself(parts, session, 'approve', summary)
    if (standing.confirms && ask.verdict === 'approve') await assertOwnFactor(session, request, summary)
    if (ask.reason !== undefined && ask.reason.length > LONGEST_NOTE)
      throw new ChaperoneError('usage', `A reason has at most ${LONGEST_NOTE} characters.`)
    if (ask.seen !== looked.seen) throw notAsShown(request)

    const now = clock.now()
    const factor = session.factorBy === undefined ? {} : { factor: session.factorBy }
    const given = { how: ask.how, ...factor, seen: ask.seen, ...(ask.reason ? { reason: ask.reason } : {}) }
    const vote = { identityId, verdict: ask.verdict, at: now, sessionId: session.id, ...given }
    const yes = voters.stillCounting([...request.votes.filter((other) => !isOutdated(other, looked.seen)), vote])
    const outcome = ask.verdict === 'deny' ? 'deny' : enough(request, asker, yes) ? 'approve' : undefined
    if (request.kind === 'server' && outcome === 'approve') assertThere(id, request.body.name)
    if (ask.verdict === 'approve') {
      const cannot = mayGrant(looked, yes)
      if (cannot) throw await refused(parts, session, 'approve', summary, cannot)
    }
    const set = outcome === undefined ? {} : decided(request, outcome, ask, now, identityId)

    const data = { request: id, kind: request.kind, askedBy: request.identityId, own: standing.own }
    const said = { ...whoActs(parts, session), request: id }
    const more = { ...given, ...(standing.confirms ? { confirmation: true } : {}) }
    await audit.append({ ...said, type: 'request.voted', data: { ...data, ...more, verdict: ask.verdict, ...grantsOf(identityId) } })
    if (outcome !== undefined) await audit.append({ ...said, type: 'request.decided', data: { ...data, ...more, ...resultOf(request, set) } })

    const type = outcome === undefined ? 'voted' : outcome === 'deny' ? 'denied' : 'approved'
    const write = async (trx: Write) => {
      await assertSaysStill(trx, looked)
      const changed = await book.change(trx, request, set)
      await book.vote(trx, changed, vote)
      return (await book.find(id, trx))!
    }
    try {
      // Rights that begin reach every node as rights that end do.
      return await commit(type, write, { rights: request.kind === 'access' && outcome === 'approve' })
    } catch (error) {
      if (outcome !== undefined && error instanceof ChaperoneError && error.code === 'conflict')
        await audit.append({ ...said, type: 'request.decided', data: { ...data, state: 'overtaken' } })
      throw error
    }
  }

  /**
   * What the agent of a person asks for runs at his desk, perhaps as he himself: the code that he gave a minute ago for something
   * else is no yes to this. A factor confirms one question, and was given after it was asked.
   */
  async function assertOwnFactor(session: LiveSession, { createdAt }: AccessRequest, summary: string): Promise<void> {
    const { factorAt = 0, principal } = session
    const before = await store.db
      .selectFrom('request_votes')
      .select('request_id')
      .where('identity_id', '=', principal.identityId)
      .where('at', '>=', factorAt)
      .executeTakeFirst()
    if (factorAt >= createdAt && !before) return
    const why = new ChaperoneError(
      'factor_required',
      'To confirm what your agent asks for takes a second factor of its own, given after the question.',
      {
        fix: 'Give a new code: run the command at a terminal, or with --totp.',
      },
    )
    throw await refused(parts, session, 'approve', summary, why)
  }

  /**
   * A role that is applied anew in this very moment gives what nobody was shown. What gives rights waits its turn among all changes
   * of rights, on every node (`store.reduce`), so what is read here is what will hold.
   */
  async function assertSaysStill(trx: Write, { request, says }: Looked): Promise<void> {
    if (request.kind !== 'access') return
    const { role } = request.body
    const row = await trx.selectFrom('documents').select('spec').where('kind', '=', 'role').where('name', '=', role).executeTakeFirst()
    if (canonicalJson(row ? JSON.parse(row.spec) : null) !== canonicalJson(says ?? null)) throw notAsShown(request)
  }

  function enough(request: AccessRequest, asker: Asker, yes: readonly Voter[]): boolean {
    // For a server one yes will do, of whoever may apply; that is what his standing says.
    return request.kind === 'server' || areMet(asker, request.needs, yes, request.escalatedAt !== undefined)
  }

  function assertThere(id: string, name: string): void {
    if (state.current().find('mcp', name)) return
    throw new ChaperoneError('conflict', `There is no MCP server ${name} yet.`, { fix: `Run: chaperone mcp add --request ${id} --apply` })
  }

  /** A role by which somebody decides may itself be one that he was given for a while: then the record says so. */
  function grantsOf(id: string): { readonly grants?: readonly string[] } {
    const grants = state.current().links([{ identity: id }], clock.now())[0]?.grants ?? []
    return grants.length === 0 ? {} : { grants: grants.map((grant) => grant.request) }
  }
}

const notAsShown = ({ kind, body }: AccessRequest): ChaperoneError =>
  new ChaperoneError(
    'conflict',
    kind === 'access'
      ? `What you were shown is not what you would decide about: the request or its role ${body.role} has changed. Nothing was decided.`
      : 'The request is not the one that you were shown. Nothing was decided.',
    { fix: 'Look at it again.' },
  )

function decided(request: AccessRequest, outcome: 'approve' | 'deny', ask: Decide, now: number, by: string): Partial<RequestTable> {
  const state = next(request.state, outcome)
  if (!state) throw overAlready(request)
  const basic = { state, decided_by: by, decided_at: now }
  if (outcome === 'deny') return basic
  if (request.kind === 'call') return { ...basic, expires_at: now + shortest(request.needs, TIMES.callApprovedMs) }
  return request.kind === 'access' ? { ...basic, ...granted(request, now, ask) } : basic
}

/** From when to when, and for whom. Never longer than was asked for. Throws `usage`. */
export function granted(
  { body: wish, startsAt }: { readonly body: AccessWish; readonly startsAt?: number },
  now: number,
  { forMs, below }: Pick<Decide, 'forMs' | 'below'> = {},
): Partial<RequestTable> {
  if (forMs !== undefined && (forMs <= 0 || forMs > wish.forMs))
    throw new ChaperoneError('usage', 'It can be given for a shorter time than was asked for, not for a longer one.')
  const starts = Math.max(now, startsAt ?? now)
  return { starts_at: starts, ends_at: starts + (forMs ?? wish.forMs), expires_at: null, below: below ? 1 : 0 }
}

const resultOf = ({ kind, body }: AccessRequest, set: Partial<RequestTable>): Readonly<Record<string, unknown>> => ({
  state: set.state,
  ...(set.starts_at === undefined ? {} : { startsAt: set.starts_at, endsAt: set.ends_at, below: set.below === 1 }),
  ...(kind === 'access' ? { role: body.role } : {}),
  ...(kind === 'server' ? { name: body.name } : {}),
})
