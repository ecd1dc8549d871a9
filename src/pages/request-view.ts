import type { RequestBefore, RequestDetail, ShownPart } from '../api/requests-contract.ts'
import { formatDuration } from '../encoding/duration.ts'
import type { WebSession } from '../signin/browser.ts'
import { type CompanyStep, passkeyButton, stepField, tokenField } from './fields.ts'
import { type Html, html, type Value } from './html.ts'
import { moment } from './layout.ts'
import { stateBadge, whoAsks } from './request-line.ts'
import { pieces, turns } from './visible.ts'

/** A text of others as it is, what is odd in it set off. */
const exactly = (text: string): Html =>
  html`${pieces(text).map((piece) => (piece.note ? html`<span class="odd">${piece.text}</span>` : turns(piece.text).map((run, i) => (i % 2 === 1 ? html`<bdi>${run}</bdi>` : run))))}`

const fact = (name: string, value: Value): Html | false => value !== undefined && value !== '' && html`<dt>${name}</dt><dd>${value}</dd>`

/** What was typed into a form, when it did not go through. */
export interface Typed {
  /** `decide`, `revoke`, `review` */
  readonly form: string
  readonly text: string
}

export interface RequestPage {
  readonly request: RequestDetail
  readonly web: WebSession
  /** He has passkeys, and they work on this host. */
  readonly passkeys: boolean
  /** of the agent that asks */
  readonly owner?: string
  readonly typed?: Typed
  readonly company?: CompanyStep | undefined
}

export function requestBody(page: RequestPage): Html {
  const { request, owner } = page
  const path = `/requests/${request.id}`
  return html`<div data-events="${path}/events?at=${request.updatedAt}" data-page="${path}">
<p>${stateBadge(request.state)} <span class="small">${titleOf(request)} ${moment(request.createdAt)}</span></p>
<h1>${exactly(request.summary)}</h1>
<p class="lead">asked by <strong>${whoAsks(request)}</strong>${owner !== undefined && `, an agent of ${owner}`}${request.resource !== undefined && html` on <strong>${request.resource}</strong>`}</p>
${whatRuns(request)}
<dl>${reasons(request)}</dl>
${request.state === 'pending' ? decision(page) : outcome(request)}
${more(page)}
<h2>How it is decided</h2>
<dl>${facts(request)}</dl>
${votes(request)}
${request.before && before(request.before)}
<p class="small">${request.id} · <a href="${path}">Load this page again</a></p>
</div>`
}

const titleOf = ({ kind, access }: RequestDetail) =>
  kind === 'call'
    ? 'One exact call, asked'
    : kind === 'server'
      ? 'A new MCP server, asked'
      : access?.breakGlass
        ? 'Break-glass, taken'
        : 'A role for a while, asked'

function whatRuns({ shown, wish }: RequestDetail): Html | false {
  if (wish) return html`<section class="runs" aria-label="The entry"><h2>The entry</h2><pre>${exactly(JSON.stringify(wish, null, 2))}</pre></section>`
  if (shown.length === 0) return false
  return html`<section class="runs" aria-label="What will run">${shown.map(
    (part) =>
      html`<h2>${part.title}</h2>${written(part, part.formatted ?? part.text)}${
        part.formatted !== undefined &&
        html`<details><summary>As written</summary><p class="small">Above it is laid out anew, word for word the same.</p>${written(part, part.text)}</details>`
      }${part.unformatted !== undefined && html`<p class="small">As it was written: ${part.unformatted}.</p>`}`,
  )}</section>`
}

const written = ({ cut, erased }: ShownPart, text: string): Html =>
  erased
    ? html`<p class="small">Not kept once it was over: ${erased.size} bytes${erased.sha256 !== undefined && `, sha256 ${erased.sha256}`}.</p>`
    : html`<pre>${exactly(text)}${cut && html`<span class="odd">⟨cut here: it has ${cut.size} bytes in all, sha256 ${cut.sha256}⟩</span>`}</pre>`

/** Who decides must not take an old purpose for an answer to his own question. */
const REASON_FROM = {
  given: 'Reason given',
  purpose: 'No reason given; the purpose',
  session: 'No reason given; the purpose of the session',
} as const

/** What one decides by, beside the thing itself. */
function reasons({ access, call, reason, reasonFrom, purpose, startsAt, endsAt }: RequestDetail) {
  return [
    access && fact('Role', access.role),
    access && fact('For', `${formatDuration(access.forMs)}${access.below ? ', also for those who act for the one who asked' : ''}`),
    startsAt !== undefined && fact('From', moment(startsAt)),
    endsAt !== undefined && fact('Until', moment(endsAt)),
    call && fact('What it does', `${call.operation}: ${call.effects.join(', ')}`),
    fact(REASON_FROM[reasonFrom ?? 'given'], reason === '' ? undefined : exactly(reason)),
    purpose !== undefined && fact('Purpose, as claimed', exactly(purpose)),
    call && fact('Why it is asked', call.message),
  ]
}

function facts({ call, approvers, expiresAt, escalatedAt, reviewDue, reviewedBy, state }: RequestDetail) {
  return [
    call && call.rules.length > 0 && fact('Rules that ask', call.rules.join('; ')),
    fact('Who can say yes', approvers),
    escalatedAt !== undefined && fact('Others may answer since', moment(escalatedAt)),
    expiresAt !== undefined && fact(state === 'pending' ? 'Answer it until' : 'Ends', moment(expiresAt)),
    reviewDue !== undefined && fact('To be looked at until', html`${moment(reviewDue)}${reviewedBy !== undefined && `; looked at by ${reviewedBy}`}`),
  ]
}

/** How long a role may be given instead: shorter, never longer. */
const SHORTER_MS = [5, 10, 15, 30, 60, 120, 240, 480, 1440].map((minutes) => minutes * 60_000)

function decision({ request, web, passkeys, typed, company }: RequestPage): Html {
  const { standing, access, id } = request
  if (standing.no !== undefined) return html`<p class="hint">${standing.no}${standing.own && ' You may withdraw it.'}</p>`
  const yes = standing.confirms ? 'Confirm' : 'Approve'
  const hidden = (verdict: string) =>
    html`${tokenField(web.token)}<input type="hidden" name="seen" value="${request.seen}"><input type="hidden" name="verdict" value="${verdict}">`
  const start = `/requests/${id}/passkey`
  return html`<section class="card" aria-labelledby="decide">
<h2 id="decide">${standing.confirms ? 'Your own agent asks you to confirm this' : 'Your decision'}</h2>
<form method="post" action="/requests/${id}/decide" autocomplete="off">${hidden('approve')}
${
  access &&
  html`<label for="for">How long</label><select id="for" name="for"><option value="">as asked: ${formatDuration(access.forMs)}</option>${SHORTER_MS.filter(
    (ms) => ms < access.forMs,
  ).map((ms) => html`<option value="${ms}">${formatDuration(ms)}</option>`)}</select>
<label class="choice"><input type="checkbox" name="below" value="yes"> <span>Also for those who act for the one who asks</span></label>`
}
${stepField('approve-code', company, `/requests/${id}`)}
<div class="buttons"><button>${yes}</button>${passkeys && passkeyButton('factor', start, `${yes} with a passkey`)}</div>
</form>
<details ${typed?.form === 'decide' && 'open'}><summary>Deny</summary>
<form method="post" action="/requests/${id}/decide" autocomplete="off">${hidden('deny')}
<label for="reason">Why not (the one who asked reads it)</label><textarea id="reason" name="reason" rows="2" maxlength="500">${typed?.form === 'decide' && typed.text}</textarea>
${stepField('deny-code', company, `/requests/${id}`)}
<div class="buttons"><button class="no">Deny</button>${passkeys && passkeyButton('factor', start, 'Deny with a passkey', 'no')}</div>
</form></details>
</section>`
}

const SAID: Readonly<Record<string, string>> = {
  approved: 'It was approved.',
  denied: 'It was denied.',
  expired: 'Its time is over.',
  withdrawn: 'It was withdrawn.',
  used: 'It was approved and has run, once.',
  revoked: 'What was approved was taken away again.',
  unknown: 'It was approved and sent; nobody can say what came of it.',
}

const outcome = ({ state, decidedBy, decidedAt, outcome }: RequestDetail): Html =>
  html`<p class="hint">${SAID[state]}${
    decidedBy !== undefined && html` Decided by <strong>${decidedBy}</strong>${decidedAt !== undefined && html`, ${moment(decidedAt)}`}.`
  }${outcome !== undefined && ` Outcome: ${outcome}.`}</p>`

/** What may still be done with it besides deciding. */
function more({ request, web, typed, company }: RequestPage): Html | undefined {
  const { standing, state, id, reviewDue, reviewedBy, kind } = request
  const act = (what: string, text: string, label: string, field: string) => html`<details ${typed?.form === what && 'open'}><summary>${text}</summary>
<form method="post" action="/requests/${id}/${what}" autocomplete="off">${tokenField(web.token)}
<label for="${what}-text">${label}</label><textarea id="${what}-text" name="${field}" rows="2" maxlength="500" required>${typed?.form === what && typed.text}</textarea>
${stepField(`${what}-code`, company, `/requests/${id}`)}<div class="buttons"><button class="no">${text}</button></div></form></details>`
  const open = state === 'pending' || (state === 'approved' && kind !== 'server')
  const actions = [
    standing.own &&
      open &&
      html`<form method="post" action="/requests/${id}/withdraw">${tokenField(web.token)}<button class="quiet">${state === 'approved' ? 'Give it back' : 'Withdraw it'}</button></form>`,
    state === 'approved' && kind !== 'server' && !standing.own && act('revoke', 'Revoke', 'Why', 'reason'),
    reviewDue !== undefined && reviewedBy === undefined && !standing.own && act('review', 'Mark as looked at', 'What you found', 'note'),
  ].filter((one) => one !== false)
  return actions.length === 0 ? undefined : html`${actions}`
}

const votes = ({ votes }: RequestDetail): Html | undefined =>
  votes.length === 0
    ? undefined
    : html`<h2>Votes</h2><ul class="plain">${votes.map(
        ({ by, verdict, reason, how, factor, at, outdated }) =>
          html`<li><strong>${by}</strong> ${verdict === 'approve' ? 'said yes' : 'said no'} (${how}${factor !== undefined && (factor === 'totp' ? ', with a code' : ', with a passkey')}), ${moment(at)}${outdated && ' – to what the role said before: it counts no more'}${reason !== undefined && html`<br>${exactly(reason)}`}</li>`,
      )}</ul>`

function before({ actions, of, more }: NonNullable<RequestDetail['before']>): Html {
  const row = ({ at, action, resource, verdict, outcome }: RequestBefore) =>
    html`<li>${moment(at)} · ${resource}<br><code>${exactly(action)}</code> <span class="small">${verdict}${outcome !== undefined && `, ${outcome}`}</span></li>`
  return html`<h2>The session so far</h2>
<p class="small">${of === 'resource' ? 'On this resource, newest first.' : 'Newest first.'}${more && ' There is more in the record.'}</p>
${actions.length === 0 ? html`<p>Nothing before this.</p>` : html`<ul class="plain">${actions.map(row)}</ul>`}`
}
