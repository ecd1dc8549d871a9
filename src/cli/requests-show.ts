import type { RequestBefore, RequestDetail, RequestRow } from '../api/requests-contract.ts'
import { formatDuration } from '../encoding/duration.ts'
import { exposed, framed } from './exposed.ts'
import { serverYaml } from './mcp-yaml.ts'
import { line, moment, styled } from './output.ts'
import { ask } from './terminal.ts'

/** Into a pipe nobody says a width. */
const WIDTH = 100
const TITLE = 11

/** Everything an approver needs to know, line by line. What others wrote is made harmless and stands behind a bar. */
export function requestLines(
  detail: RequestDetail,
  { width = process.stdout.columns || WIDTH, asWritten = false }: { readonly width?: number; readonly asWritten?: boolean } = {},
): readonly string[] {
  const { call, access, shown, before } = detail
  const field = (title: string, text: string | undefined, room = width - TITLE - 1): readonly string[] => {
    if (text === undefined || text === '') return []
    return framed(text, room).map((part, i) => `${(i === 0 ? title : '').padEnd(TITLE)} ${part.slice(2)}`)
  }
  return [
    styled('bold', `${detail.id}  ${detail.state}`),
    ...field('what', oneLine(detail.summary)),
    ...field('on', oneLine(detail.resource)),
    ...field('effects', call?.effects.join(', ')),
    ...field('who', detail.chain.join(' → ')),
    ...(detail.chain.length > 1 ? field('', `${detail.by} asks, on behalf of ${detail.chain.slice(0, -1).join(', ')}`) : []),
    ...field('purpose', detail.purpose && `claimed: ${oneLine(detail.purpose)}`),
    ...field('reason', detail.reason && `${reasonFrom(detail)}claimed: ${oneLine(detail.reason)}`),
    ...field('asked', oneLine(call && askedText(call))),
    ...field('since', moment(detail.createdAt)),
    ...field('holds', timesText(detail)),
    ...(access?.breakGlass ? field('', 'taken at once, without asking (break-glass)') : []),
    ...(access?.below ? field('', `those who act for ${detail.by} have it too`) : []),
    ...field('approvers', detail.approvers),
    ...detail.votes.flatMap((vote) =>
      field(
        '',
        `${vote.verdict === 'approve' ? 'yes' : 'no'} of ${vote.by}, ${moment(vote.at)}, by ${givenText(vote)}${vote.reason === undefined ? '' : `: ${oneLine(vote.reason)}`}`,
      ),
    ),
    ...field('decided', detail.decidedBy && `by ${detail.decidedBy}, ${moment(detail.decidedAt)}`),
    ...field('outcome', detail.outcome),
    ...field('review', reviewText(detail)),
    ...field('you', standingText(detail)),
    // To be copied, so in one piece.
    ...field('link', detail.url, Number.POSITIVE_INFINITY),
    ...field('seen', detail.seen, Number.POSITIVE_INFINITY),
    ...shown.flatMap(({ title, text, formatted, unformatted, cut, erased }) => [
      '',
      styled('bold', exposed(title)),
      ...(erased ? [erasedText(erased)] : framed(asWritten ? text : (formatted ?? text), width)),
      ...(asWritten || formatted === undefined ? [] : ['Laid out anew, word for word the same; as it was written: --as-written of `requests show`']),
      ...(unformatted === undefined ? [] : [`As it was written: ${unformatted}.`]),
      ...(cut ? [styled('red', `!! This is not all of it: it has ${cut.size} bytes, sha256 ${cut.sha256}.`)] : []),
    ]),
    ...(detail.wish ? ['', styled('bold', 'Document'), ...framed(serverYaml(detail.wish, undefined), width)] : []),
    ...(before ? beforeLines(before, width) : []),
  ]
}

const erasedText = ({ size, sha256 }: NonNullable<RequestDetail['shown'][number]['erased']>): string =>
  `Not kept once it was over: ${size} bytes${sha256 === undefined ? '' : `, sha256 ${sha256}`}.`

/** The way of a vote, and what proved that it was he. */
function givenText({ how, factor, outdated }: RequestDetail['votes'][number]): string {
  const by = factor === undefined ? how : `${how} with ${factor === 'totp' ? 'a code' : 'a passkey'}`
  return outdated ? `${by} (to what the role said before: counts no more)` : by
}

/** Who decides must not take an old purpose for an answer to his own question. */
const reasonFrom = ({ reasonFrom }: Pick<RequestRow, 'reasonFrom'>): string =>
  reasonFrom === undefined ? '' : `none given; from the purpose${reasonFrom === 'session' ? ' of the session' : ''}, `

/** Of one rule the message names it already. */
const askedText = ({ message, rules }: NonNullable<RequestDetail['call']>): string =>
  rules.every((rule) => message.includes(rule)) ? message : `${message} (${rules.join('; ')})`

/** Of several lines only the parts of a call are; a reason has one. */
const oneLine = <T extends string | undefined>(text: T): T => text?.replaceAll('\n', ' ⏎ ') as T

function timesText({ state, expiresAt, startsAt, endsAt, kind }: RequestRow): string | undefined {
  const begins = startsAt === undefined ? '' : `from ${moment(startsAt)} `
  if (state === 'approved' && endsAt !== undefined) return `${begins}until ${moment(endsAt)}`
  if (expiresAt === undefined) return undefined
  if (state === 'pending') return `open until ${moment(expiresAt)}${begins === '' ? '' : `; asked for ${begins.trim()}`}`
  return state === 'approved' && kind === 'call' ? `until ${moment(expiresAt)}, for one call` : undefined
}

function reviewText({ reviewDue, reviewedBy }: RequestRow): string | undefined {
  if (reviewedBy !== undefined) return `done by ${reviewedBy}`
  return reviewDue === undefined ? undefined : `due until ${moment(reviewDue)}`
}

function standingText({ standing, state }: RequestRow): string | undefined {
  if (state !== 'pending') return undefined
  if (standing.no !== undefined) return standing.no
  return standing.confirms ? 'can confirm it: it is a call of your own agent, and your yes is recorded as a confirmation' : 'can decide it'
}

function beforeLines({ actions, of, more }: NonNullable<RequestDetail['before']>, width: number): readonly string[] {
  const title = of === 'session' ? 'In this session before' : 'In this session before, on the same resource'
  if (actions.length === 0) return ['', styled('bold', title), 'nothing']
  return ['', styled('bold', title), ...actions.flatMap((action) => framed(beforeText(action), width)), ...(more ? ['and more, earlier'] : [])]
}

function beforeText({ at, action, resource, verdict, outcome }: RequestBefore): string {
  return oneLine(
    `${moment(at)}  ${(verdict === 'deny' ? 'refused' : (outcome ?? (verdict === 'ask' ? 'asked' : 'under way'))).padEnd(9)}  ${action}  (${resource})`,
  )
}

/** All of it; at a terminal so much at a time as fits, so that nothing runs past whoever is to say yes. False: he ended it before the end. */
export async function printPaged(lines: readonly string[]): Promise<boolean> {
  const { isTTY, rows } = process.stdout
  const room = isTTY && process.stdin.isTTY && rows ? Math.max(5, rows - 2) : Number.POSITIVE_INFINITY
  for (let at = 0; at < lines.length; at += room) {
    for (const text of lines.slice(at, at + room)) line(text)
    const left = lines.length - at - room
    if (left <= 0) break
    const answer = await ask(`-- ${left} more lines: Enter goes on, q ends `)
    if (answer === undefined || /^q/i.test(answer)) return false
  }
  return true
}

export const reviewedText = ({ id, reviewedBy = '', summary }: RequestRow): string =>
  `${id} was looked at by ${exposed(reviewedBy)}: ${exposed(oneLine(summary))}`

/** What came of a decision, a wish or a withdrawal, in a line. */
export function resultText(row: RequestRow): string {
  const { id, state, access, kind, endsAt, startsAt, expiresAt, approvers } = row
  const what = exposed(oneLine(row.summary))
  if (state === 'pending') return `${id} waits for ${approvers}${expiresAt === undefined ? '' : `, until ${moment(expiresAt)}`}: ${what}`
  if (state === 'approved' && access) {
    const from = startsAt === undefined || startsAt <= row.updatedAt ? '' : `from ${moment(startsAt)} `
    const length = endsAt === undefined ? formatDuration(access.forMs) : `until ${moment(endsAt)}`
    return `${id} is approved: ${exposed(row.by)} has role ${exposed(access.role)}${row.resource === undefined ? '' : ` on ${exposed(row.resource)}`} ${from}${length}. It holds in sessions that are open already.`
  }
  if (state === 'approved' && kind === 'call')
    return `${id} is approved: it runs once, now if the caller still waits, else when the same call comes again${expiresAt === undefined ? '' : `, until ${moment(expiresAt)}`}: ${what}`
  return `${id} is ${state}: ${what}`
}
