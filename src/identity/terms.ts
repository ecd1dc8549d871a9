import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'

const DAY = 24 * 3_600_000

/** A client of a person (`boris/claude-code`) comes to be without a document, so it has this where none says otherwise. */
const CLIENT_UNUSED_MS = 90 * DAY

/** Nobody is stopped of whose end nobody was told this long before; of shorter terms, half their time. */
const LONGEST_NOTICE_MS = 7 * DAY
/** And once more, when so much is left. */
const LAST_NOTICE_MS = DAY

const SHORTEST_MS = DAY
const LONGEST_MS = 3 * 366 * DAY

/** `unused` and `review` of an agent's document. */
export const termText = z.string().refine((text) => {
  try {
    const ms = parseDuration(text)
    return ms >= SHORTEST_MS && ms <= LONGEST_MS
  } catch {
    return false
  }
}, 'Write a time between 1d and 3 years, such as 30d.')

/** What an agent must live up to. Absent: it is not asked for. */
export interface Terms {
  /** used at least once in this time (ms) */
  readonly unusedMs?: number
  /** looked at by its owner, or by who may, at least once in this time (ms) */
  readonly reviewMs?: number
}

/** The terms of an agent: what its document says, if it has one. */
export function termsOf(source: string, { unused, review }: { readonly unused?: string; readonly review?: string } = {}): Terms {
  const unusedMs = unused === undefined ? (source === 'client' ? CLIENT_UNUSED_MS : undefined) : parseDuration(unused)
  return {
    ...(unusedMs === undefined ? {} : { unusedMs }),
    ...(review === undefined ? {} : { reviewMs: parseDuration(review) }),
  }
}

/** Why an agent is stopped, although nobody did it by hand. */
export type StopReason = 'unused' | 'unreviewed' | 'owner' | 'directory'

/** What is known of an agent. Times are ms since 1970. */
export interface Governed {
  readonly state: 'active' | 'disabled' | 'deleted'
  readonly ownerState: 'active' | 'disabled' | 'deleted' | undefined
  /** why Chaperone stopped it */
  readonly stopped: string | null
  readonly createdAt: number
  readonly reviewedAt: number | null
  readonly lastUsedAt: number | null
  readonly stopsAt: number | null
  readonly toldAt: number | null
}

export interface Due {
  readonly why: 'unused' | 'unreviewed'
  /** when its time is over; it is stopped no earlier */
  readonly at: number
  /** how long before its people are told */
  readonly noticeMs: number
}

/** Each term that holds, the one that is over first before the other. A review counts as a use: somebody wants to keep it. */
export function duesOf({ createdAt, reviewedAt, lastUsedAt }: Governed, { unusedMs, reviewMs }: Terms): readonly Due[] {
  const reviewed = Math.max(createdAt, reviewedAt ?? 0)
  const due = (why: Due['why'], since: number, ms: number | undefined): Due[] =>
    ms === undefined ? [] : [{ why, at: since + ms, noticeMs: Math.min(LONGEST_NOTICE_MS, ms / 2) }]
  return [...due('unused', Math.max(reviewed, lastUsedAt ?? 0), unusedMs), ...due('unreviewed', reviewed, reviewMs)].sort((a, b) => a.at - b.at)
}

/**
 * Why it is stopped now, if it is. An agent has nobody who answers for it while its owner is away, whatever its own state; when
 * he is back it works again, unless something else stopped it meanwhile.
 */
export function stoppedBy({ state, ownerState, stopped }: Pick<Governed, 'state' | 'ownerState' | 'stopped'>): StopReason | 'hand' | undefined {
  if (state !== 'active') return stopped === 'unused' || stopped === 'unreviewed' || stopped === 'directory' ? stopped : 'hand'
  return ownerState === 'active' ? undefined : 'owner'
}

export type Step =
  /** say that it will be stopped at `stopsAt` */
  | { readonly do: 'tell'; readonly why: Due['why']; readonly stopsAt: number }
  | { readonly do: 'stop'; readonly why: Due['why'] }
  /** it was used or reviewed since they were told */
  | { readonly do: 'forget' }
  /** the owner is gone, or back: only what is shown and recorded changes, for rights ended with him */
  | { readonly do: 'owner gone' }
  | { readonly do: 'owner back' }

/** What is written down of tomorrow was written under a clock that had jumped, and says nothing (rule 4); nodes differ by seconds. */
const been = (at: number | null, now: number): number | null => (at !== null && at > now + DAY ? null : at)

/**
 * What the sweep has to do about an agent, if anything. Pure.
 *
 * Nobody is stopped by surprise: a term that was written today for an agent of last year, or a server that was off for a week,
 * gives the same notice first.
 */
export function stepFor(written: Governed, terms: Terms, now: number): Step | undefined {
  const agent = { ...written, reviewedAt: been(written.reviewedAt, now), lastUsedAt: been(written.lastUsedAt, now) }
  if (agent.state !== 'active') return undefined
  if (agent.ownerState !== 'active') return agent.stopped === 'owner' ? undefined : { do: 'owner gone' }
  if (agent.stopped === 'owner') return { do: 'owner back' }
  const due = duesOf(agent, terms).find(({ at, noticeMs }) => now >= at - noticeMs)
  if (!due) return agent.stopsAt === null ? undefined : { do: 'forget' }
  const { why, at, noticeMs } = due
  // Later than anybody would say it now: said under a clock that had jumped, or of a longer term.
  if (agent.stopsAt === null || agent.stopsAt < at || agent.stopsAt > Math.max(at, now + noticeMs))
    return { do: 'tell', why, stopsAt: Math.max(at, now + noticeMs) }
  if (now >= agent.stopsAt) return { do: 'stop', why }
  const last = agent.stopsAt - LAST_NOTICE_MS
  if (now >= last && (agent.toldAt ?? 0) < last && noticeMs > LAST_NOTICE_MS) return { do: 'tell', why, stopsAt: agent.stopsAt }
  return undefined
}
