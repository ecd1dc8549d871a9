import { setImmediate } from 'node:timers/promises'
import { readBodies } from '../audit/bodies.ts'
import { type RecordFilter, searchRecords } from '../audit/query.ts'
import type { Envelope } from '../audit/record.ts'
import type { Question } from '../policy/types.ts'
import type { ApiParts } from './parts.ts'
import { actionIn, BY_RULES, linksOf, sessionOf } from './recorded-action.ts'

/** So many actions are judged again in one call, of so many records that are looked at (rule 11). */
const MOST_ACTIONS = 5_000
const MOST_RECORDS = 50_000
const PAGE = 250

/** An action of the record, ready to be judged again; or why it cannot be. */
export type Recalled = { readonly envelope: Envelope; readonly failed: boolean } & (
  | { readonly question: Question; readonly was: 'allow' | 'ask' | 'deny' }
  | { readonly why: string }
)

const ACTIONS: ReadonlySet<string> = new Set(['action.intent', 'action.refused'])
/** A question that a human answered, or could not be asked: what the rules said was `ask`. (`approval_refused` is about who decides.) */
const ASKED: ReadonlySet<string> = new Set(['approval_required', 'approval_unavailable', 'approval_denied', 'approval_used'])

/** Recorded actions, newest first, each put together again. Ends with when it stopped (ms since 1970) if it did not see all. */
export async function* recordedActions(parts: ApiParts, filter: RecordFilter): AsyncGenerator<Recalled, number | undefined> {
  let before: string | undefined
  let actions = 0
  for (let seen = 0; seen < MOST_RECORDS; seen += PAGE) {
    await setImmediate() // SQLite answers on this very thread, and the data plane wants to run on it too
    const page = await searchRecords(parts.store.db, { ...filter, limit: PAGE, ...(before === undefined ? {} : { before }) })
    const found = page.rows.filter(({ envelope: { type, action } }) => ACTIONS.has(type) && action !== undefined)
    const bodies = await readBodies(
      parts.store.db,
      found.map(({ envelope }) => envelope),
    )
    for (const { envelope, outcome } of found) {
      if (actions++ >= MOST_ACTIONS) return envelope.at
      yield await recall(parts, envelope, bodies.get(envelope.id) ?? [], outcome?.status === 'failed')
    }
    if (page.next === undefined) return undefined
    before = page.next
  }
  return Number(before?.split('.')[0])
}

async function recall(parts: ApiParts, envelope: Envelope, bodies: Parameters<typeof actionIn>[1]['bodies'], failed: boolean): Promise<Recalled> {
  const { decision } = envelope
  const cannot = (why: string): Recalled => ({ envelope, failed, why })
  if (!decision) return cannot('the record does not say what was decided')
  const asked = ASKED.has(decision.reason)
  if (decision.verdict === 'deny' && !asked && !BY_RULES.has(decision.reason))
    return cannot(`it was refused by something that is no rule (${decision.reason})`)
  if (decision.grant !== undefined) return cannot('it rested on a role that was granted for a while')
  const action = actionIn(parts, { envelope, bodies })
  if (typeof action === 'string') return cannot(reasonOf(action))
  const links = await linksOf(parts, envelope)
  if (typeof links === 'string') return cannot(reasonOf(links))
  const question = { links, action, now: envelope.at, session: await sessionOf(parts, envelope) }
  return { envelope, failed, question, was: asked ? 'ask' : decision.verdict }
}

/** Sentences that name one thing would make a group of each. */
const reasonOf = (sentence: string) =>
  sentence.startsWith('The record')
    ? 'the record does not hold all that rules read of it'
    : sentence.includes('is not there any more')
      ? 'its resource is not there any more'
      : 'whoever did it may not act any more'

/** Why some could not be judged, counted, the most frequent first. */
export function countUnknowns() {
  const found = new Map<string, { why: string; count: number; record: string }>()
  return {
    add(why: string, record: string) {
      const known = found.get(why)
      if (known) known.count++
      else found.set(why, { why, count: 1, record })
    },
    list: () => [...found.values()].sort((a, b) => b.count - a.count),
  }
}
