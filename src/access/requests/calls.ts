import type { Masker } from '../../audit/mask.ts'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { seenWhole } from '../../encoding/unseen.ts'
import { ChaperoneError } from '../../errors.ts'
import type { ChainLink, LiveSession } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import { reasonFault } from '../../policy/approval.ts'
import type { Action, Ask, Decision } from '../../policy/types.ts'
import type { Store, Write } from '../../store/store.ts'
import type { ExactCall, Outcome, Parked } from '../types.ts'
import { areMet, whoDecides } from './approvers.ts'
import type { Book } from './book.ts'
import type { Changes } from './changes.ts'
import type { Commit } from './commit.ts'
import { eraseAt } from './erasing.ts'
import { assertMayAsk } from './limits.ts'
import { shortest, TIMES } from './machine.ts'
import { storedOf } from './shown.ts'
import { turnsById } from './turns.ts'
import type { AccessRequest, CallWish, Need } from './types.ts'
import type { Voters } from './voters.ts'

/** A call about which a human must be asked, or was. */
export interface Asked {
  readonly session: LiveSession
  readonly action: Action
  readonly decision: Decision
  readonly call: ExactCall
  readonly digest: string
  /** The question that is on record for this wait already. */
  readonly known?: string | undefined
  /** Records that it is asked, under the id of the request. `again`: it was asked before, and waits. Rejects when that is too often. */
  record(request: string, again: boolean): Promise<void>
}

/** `approved`: to be used up with the intent. `parked`: it waits for an answer. */
export type Answer = { readonly approved: AccessRequest } | { readonly denied: AccessRequest } | { readonly parked: Parked }

/** The exact calls that wait or were answered; what the guard needs of requests. */
export interface Calls {
  answer(asked: Asked): Promise<Answer>
  /** Whether those who said yes to it still may have. */
  stillSaid(request: string): Promise<boolean>
  /** The call that ran under this permit, by an approval for exactly this identity and chain. */
  ranUnder(session: LiveSession, permit: string): Promise<AccessRequest | undefined>
  /** The permit has used the approval up. */
  used(request: string): void
  /** The identity's question waits for nobody any more, for this reason: the call went on without its answer, or is another one by now. */
  notNeeded(identityId: string, request: string, why: string): void
  /** What came of it. `refused`: it was used up, and then something else stood in the way. */
  settled(request: string, permit: string, status: Outcome['status'] | 'refused'): void
}

interface CallsParts {
  readonly store: Store
  readonly book: Book
  readonly changes: Changes
  readonly voters: Pick<Voters, 'askers' | 'stillCounting'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly masker: Pick<Masker, 'text' | 'looks' | 'holds'>
  readonly commit: Commit
  /** where a request is decided */
  readonly link: (id: string) => string
  /** An outcome could not be stored. */
  readonly failed: (error: unknown) => void
}

export function openCalls(parts: CallsParts): Calls {
  const { store, book, changes, voters, audit, clock, commit, failed } = parts
  /** Who is making a request about one call: the others wait for it, so that fifty retries make one question. */
  const inTurn = turnsById()

  const parked = (request: AccessRequest): Parked => ({
    request: request.id,
    url: parts.link(request.id),
    expiresAt: request.expiresAt ?? 0,
    approvers: whoDecides(request),
  })

  /** What is known of it; undefined: it must be asked about. */
  const known = async ({ session, digest }: Asked): Promise<AccessRequest | undefined> => {
    const found = await book.ofCall(session.principal.identityId, digest)
    if (!found || (found.expiresAt ?? 0) <= clock.now()) return undefined
    if (found.state === 'approved' && !(await stands(found))) {
      await voided(found)
      return undefined
    }
    return found.state === 'pending' || found.state === 'approved' || found.state === 'denied' ? found : undefined
  }

  /** Who said yes must still be one who may: who was locked, disabled or left the role since counts no more. */
  const stands = async (found: AccessRequest): Promise<boolean> => {
    const asker = (await voters.askers([found]))(found)
    return areMet(asker, found.needs, voters.stillCounting(found.votes), found.escalatedAt !== undefined)
  }

  const voided = async (found: AccessRequest): Promise<void> => {
    const data = { request: found.id, state: 'revoked', reason: 'who approved it may not any more' }
    await audit.append({ type: 'request.ended', request: found.id, data })
    try {
      await commit('revoked', (trx) => book.change(trx, found, { state: 'revoked' }))
    } catch (error) {
      // Somebody else has ended it, or found the same: it is not approved any more either way.
      if (!(error instanceof ChaperoneError && error.code === 'conflict')) throw error
    }
  }

  /** By nobody: whoever waits for it as well asks the guard again (park.ts). */
  const withdrawn = async (identityId: string, id: string, why: string): Promise<void> => {
    const found = await book.find(id)
    if (found?.identityId !== identityId || found.state !== 'pending') return
    await audit.append({
      type: 'request.ended',
      request: id,
      data: { request: id, kind: found.kind, state: 'withdrawn', askedBy: identityId, reason: why },
    })
    try {
      await commit('withdrawn', (trx) => book.change(trx, found, { state: 'withdrawn', outcome: why }))
    } catch (error) {
      // Somebody answered in this very moment, and that holds.
      if (!(error instanceof ChaperoneError && error.code === 'conflict')) throw error
      await audit.append({ type: 'request.ended', request: id, data: { request: id, state: 'overtaken' } })
    }
  }

  const answerOf = async (found: AccessRequest, asked: Asked): Promise<Answer> => {
    if (found.state === 'approved') return { approved: found }
    if (found.state === 'denied') return { denied: found }
    if (asked.known !== found.id) await asked.record(found.id, true)
    return { parked: parked(found) }
  }

  const make = async (asked: Asked): Promise<Answer> => {
    const found = await known(asked)
    if (found) return answerOf(found, asked)
    const { session, action, decision, call, digest } = asked
    const asks = decision.asks ?? []
    const reason = reasonFor(asks, session.purpose)
    assertSomebodyBehind(asks, session)
    const needs = asks.map(needOf)
    const now = clock.now()
    const body = wishOf(action, decision, asks, call, parts.masker)
    const request = {
      id: newId('req', now),
      kind: 'call' as const,
      identityId: session.principal.identityId,
      chain: session.principal.chain,
      body,
      reason,
      purpose: session.purpose,
      sessionId: session.id,
      needs,
      expiresAt: now + shortest(needs, TIMES.callPendingMs),
      resourceId: action.resource.id,
      digest,
      eraseAt: eraseAt(now, needs, body),
    }
    await assertMayAsk(store.db, request, now)
    await asked.record(request.id, false)
    try {
      const made = await commit('made', async (trx) => {
        await expireStale(trx, request.identityId, digest)
        return book.add(trx, request)
      })
      const instead = await overtaken(made, call.wish)
      return { parked: { ...parked(made), ...(instead === undefined ? {} : { instead }) } }
    } catch (error) {
      const other = error instanceof ChaperoneError && error.code === 'conflict' ? await known(asked) : undefined
      if (!other) throw error
      // Another node was asked the same in this moment, and its question stands.
      await audit.append({ type: 'request.ended', request: request.id, data: { request: request.id, state: 'withdrawn', instead: other.id } })
      return answerOf(other, asked)
    }
  }

  /** What was asked about the same wish when it meant something else. The id of one that was approved. */
  const overtaken = async (made: AccessRequest, wish: string | undefined): Promise<string | undefined> => {
    if (wish === undefined) return undefined
    const open = await book.where((rows) =>
      rows.where('identity_id', '=', made.identityId).where('kind', '=', 'call').where('state', 'in', ['pending', 'approved']),
    )
    let approved: string | undefined
    for (const before of open) {
      if (before.kind !== 'call' || before.body.wish !== wish || before.id === made.id) continue
      const state = before.state === 'approved' ? 'revoked' : 'withdrawn'
      const reason = `it comes to something else by now, and is asked about anew as ${made.id}`
      await audit.append({ type: 'request.ended', request: before.id, data: { request: before.id, state, reason, instead: made.id } })
      try {
        await commit(state, (trx) => book.change(trx, before, { state, outcome: reason }))
        if (state === 'revoked') approved = before.id
      } catch (error) {
        if (!(error instanceof ChaperoneError && error.code === 'conflict')) throw error
      }
    }
    return approved
  }

  /** One that nobody answered in time and no sweep has met yet would stand in the way of the new question. */
  const expireStale = (trx: Write, identityId: string, digest: string) =>
    trx
      .updateTable('requests')
      .set({ state: 'expired' })
      .where('identity_id', '=', identityId)
      .where('digest', '=', digest)
      .where('state', '=', 'pending')
      .where('expires_at', '<=', clock.now())
      .execute()

  return {
    async answer(asked) {
      const { session, digest } = asked
      const { identityId } = session.principal
      const found = await known(asked)
      const answer = await (found ? answerOf(found, asked) : inTurn(`${identityId} ${digest}`, () => make(asked)))
      const now = 'parked' in answer ? answer.parked.request : 'approved' in answer ? answer.approved.id : answer.denied.id
      if (asked.known !== undefined && asked.known !== now) this.notNeeded(identityId, asked.known, `asked again as ${now}`)
      return answer
    },

    notNeeded(identityId, id, why) {
      inTurn(id, () => withdrawn(identityId, id, why)).catch(failed)
    },

    async stillSaid(id) {
      const found = await book.find(id)
      return found !== undefined && stands(found)
    },

    async ranUnder({ principal }, permit) {
      const found = await book.ofPermit(principal.identityId, permit)
      const same = found && JSON.stringify(found.chain.map(linkOf)) === JSON.stringify(principal.chain.map(linkOf))
      return same && (found.state === 'used' || found.state === 'unknown') ? found : undefined
    },

    used(id) {
      book
        .find(id)
        .then((request) => request && changes.tell({ type: 'used', request }))
        .catch(failed)
    },

    settled(id, permit, status) {
      const unknown = status === 'unknown'
      const write = async () => {
        if (unknown) await audit.append({ type: 'request.ended', request: id, permit, data: { request: id, state: 'unknown' } })
        const state = unknown ? 'unknown' : 'used'
        await commit(state, (trx) => book.settle(trx, id, permit, status, state))
      }
      write().catch(failed)
    },
  }
}

const linkOf = ({ identity, delegation }: ChainLink) => [identity, delegation ?? null]

const needOf = ({ approvers, link, escalate, expiresMs }: Ask): Need => ({
  approvers,
  link,
  ...(escalate ? { escalate } : {}),
  ...(expiresMs === undefined ? {} : { expiresMs }),
})

function wishOf(
  action: Action,
  decision: Decision,
  asks: readonly Ask[],
  call: ExactCall,
  masker: Pick<Masker, 'text' | 'looks' | 'holds'>,
): CallWish {
  return {
    kind: action.kind,
    operation: action.operation,
    effects: action.effects,
    // Names of tools and tables stand in headings and lists.
    summary: seenWhole(masker.text(action.summary).value),
    resource: { id: action.resource.id, name: action.resource.name },
    message: seenWhole(decision.message),
    rules: asks.map((ask) => ask.rule),
    shown: storedOf(call.shown, masker),
    ...(call.fleeting ? { fleeting: true } : {}),
    ...(call.wish === undefined ? {} : { wish: call.wish }),
  }
}

/** The purpose of the session is the reason of its calls. Throws `approval_unavailable` where the rule wants another. */
function reasonFor(asks: readonly Ask[], purpose: string | undefined): string {
  for (const { reason } of asks) {
    const fault = reasonFault(reason, purpose)
    if (fault === undefined) continue
    throw new ChaperoneError('approval_unavailable', `Before anybody is asked, the rule wants to know why. ${fault}`, {
      fix: 'The reason of a call is the purpose of its session: start one with --purpose "…".',
    })
  }
  return purpose ?? ''
}

/** A person who acts by himself has nobody behind him, and his own yes would be worth nothing: he would wait for ever. */
function assertSomebodyBehind(asks: readonly Ask[], { principal }: LiveSession): void {
  if (principal.kind !== 'user' || !asks.some(({ approvers, escalate }) => approvers === 'owner' && !escalate)) return
  throw new ChaperoneError('approval_unavailable', 'The rule wants the person behind an agent to confirm this, and nobody is behind you.')
}
