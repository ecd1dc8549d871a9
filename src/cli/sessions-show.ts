import type { SessionDetail } from '../api/contract.ts'
import { formatDuration } from '../encoding/duration.ts'
import { moment, printable } from './output.ts'

const row = (title: string, text: string | undefined): string[] => (text === undefined ? [] : [`${title.padEnd(11)}${printable(text)}`])

/** A session, as a person reads it. Whatever others wrote goes through `printable`. */
export function sessionLines(session: SessionDetail): string[] {
  const { limits } = session
  const bounds = [
    limits.concurrent === undefined ? [] : [`${limits.concurrent} at a time`],
    limits.idleMs === undefined ? [] : [`idle ${formatDuration(limits.idleMs)}`],
    limits.longestMs === undefined ? [] : [`longest ${formatDuration(limits.longestMs)}`],
  ].flat()
  return [
    ...row('session', session.id),
    ...row('identity', session.identity),
    ...row('chain', session.chain.join(' > ')),
    ...row('how', session.issuer === undefined ? session.how : `${session.how}, by ${session.issuer}`),
    ...row('client', session.client),
    ...row('purpose', session.purpose === undefined ? undefined : `${session.purpose} (as claimed)`),
    ...row('since', moment(session.startedAt)),
    ...row('used', session.lastUsedAt === undefined ? undefined : moment(session.lastUsedAt)),
    ...row('until', moment(session.expiresAt)),
    ...row('limits', bounds.length === 0 ? undefined : bounds.join(', ')),
    ...section('granted', session.grants, ({ role, resource, until, request }) => [
      `${role}${resource === undefined ? '' : ` on ${resource}`}`,
      `until ${moment(until)}`,
      request,
    ]),
    ...section('live', session.open, ({ protocol, since, id }) => [protocol, since === undefined ? '' : `since ${moment(since)}`, id]),
    ...section('did last', session.actions, ({ at, verdict, summary, resource, id }) => [moment(at) ?? '', verdict, summary, resource ?? '', id]),
  ]
}

function section<One>(title: string, all: readonly One[], cells: (one: One) => readonly string[]): string[] {
  if (all.length === 0) return []
  return [
    title,
    ...all.map(
      (one) =>
        `  ${cells(one)
          .filter((cell) => cell !== '')
          .map(printable)
          .join('  ')}`,
    ),
  ]
}
