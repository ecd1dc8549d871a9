import type { DelegationRow } from '../identity/delegation/list.ts'
import type { WebSession } from '../signin/browser.ts'
import { tokenField } from './fields.ts'
import { type Html, html } from './html.ts'
import { moment } from './layout.ts'

/** Who acts for this person, and for the agents he owns, with a button that ends it. */
export function delegationsBody({ web, rows }: { readonly web: WebSession; readonly rows: readonly DelegationRow[] }): Html {
  const token = tokenField(web.token)
  return html`<h1>Who acts for you</h1>
<p class="small">Programs and agents that act on your behalf, and what your agents hand on. Revoking one cuts what it is doing at once, with everything that was handed on under it.</p>
${rows.length === 0 ? html`<p>Nobody does.</p>` : rows.map((row) => card(row, token))}
<p><a href="/account">Account</a></p>`
}

function card({ id, from, to, how, client, words, leaves, createdAt, expiresAt, session, sessions }: DelegationRow, token: Html): Html {
  return html`<section class="card" aria-label="${to} acts for ${from}"><h2>${to}</h2>
<p>for ${from}${how !== undefined && html`, by ${how}`}${client !== undefined && html` (${client})`}<br><span class="small">since ${moment(createdAt)}${expiresAt !== undefined && html`, until ${moment(expiresAt)}`}${session !== undefined && html`, ends with the session it was agreed to in`}; ${sessions} open here</span></p>
${leaves.length === 0 ? html`<p>Nothing that ${from} may do is left out, but administering Chaperone.</p>` : html`<ul>${leaves.map((text) => html`<li>${text}</li>`)}</ul>`}
${words !== undefined && html`<details><summary>What was agreed to</summary><p>${words}</p></details>`}
<form method="post" action="/account/delegations/revoke">${token}<input type="hidden" name="id" value="${id}"><div class="buttons"><button class="no" aria-label="Revoke ${to} for ${from}">Revoke</button></div></form></section>`
}
