import { called } from '../identity/delegation/consent.ts'
import type { WebSession } from '../signin/browser.ts'
import type { Asked } from '../signin/oauth/consents.ts'
import { codeField, passkeyButton, tokenField } from './fields.ts'
import { type Html, html } from './html.ts'

export interface ConsentPage {
  readonly uid: string
  readonly asked: Asked
  /** what of it he sees; goes back with his answer */
  readonly seen: string
  readonly web: WebSession
  readonly passkeys: boolean
  readonly factorFresh: boolean
}

const fact = (name: string, value: Html | string) => html`<dt>${name}</dt><dd>${value}</dd>`

/** What a client wants, who it says it is, and the person's answer. Everything of the client is its own claim. */
export function consentBody({ uid, asked, seen, web, passkeys, factorFresh }: ConsentPage): Html {
  const { client, clientHost, redirectHost, loopback, server, chosen, words, remembered } = asked
  const action = `/oauth/consent/${uid}`
  return html`<h1>${called(client.name)} wants to act for you</h1>
<dl>
${fact('Calls itself', client.name)}
${fact('Known by', clientHost === undefined ? html`an entry of this server: ${client.id}` : html`<strong>${clientHost}</strong> vouches for the name (${client.id})`)}
${fact('The answer goes to', html`<strong>${redirectHost}</strong>${loopback && ', which is this computer'}`)}
${fact('Wants to use', server === undefined ? 'every MCP server that you may use' : html`the MCP server <strong>${server}</strong>`)}
</dl>
${
  loopback &&
  html`<p class="hint">Any program on this computer could be behind it and call itself ${called(client.name)}: nobody can tell them apart. Go on only if you have just begun this sign-in yourself.</p>`
}
<section class="card" aria-labelledby="gets"><h2 id="gets">What it gets</h2>
<ul>${words.map((line) => html`<li>${line}</li>`)}</ul>
<form method="post" action="${action}" autocomplete="off">${tokenField(web.token)}<input type="hidden" name="seen" value="${seen}">
<label for="agent">It acts as</label><select id="agent" name="agent">${asked.agents.map(
    ({ name, isNew }) => html`<option value="${name}" ${name === chosen.agent && 'selected'}>${name}${isNew && ' (new, for this client)'}</option>`,
  )}</select>
${
  asked.profiles.length > 0 &&
  html`<label for="profile">How much of what you may do</label><select id="profile" name="profile"><option value="">everything</option>${asked.profiles.map(
    (name) => html`<option value="${name}" ${name === chosen.profile && 'selected'}>${name}</option>`,
  )}</select>`
}
${
  asked.readOnlyForced
    ? html`<p class="small">It asked for reading alone.</p>`
    : html`<label class="choice"><input type="checkbox" name="read" value="only" ${chosen.readOnly && 'checked'}> <span>Only what changes nothing</span></label>`
}
${
  remembered || factorFresh
    ? html`<p class="small">${remembered ? 'You agreed to this before, and are still signed in: no code is needed.' : 'You have just given a second factor.'}</p>`
    : codeField('consent-code')
}
<div class="buttons"><button name="verdict" value="agree">Agree</button>${
    passkeys && !remembered && !factorFresh && passkeyButton('factor', `${action}/passkey`, 'Agree with a passkey')
  }<button class="quiet" name="verdict" value="look">Show what it gets then</button><button class="no" name="verdict" value="refuse">Refuse</button></div>
</form></section>`
}

export const overBody = html`<h1>This sign-in is over</h1><p>It was answered already, it took longer than ten minutes, or it was begun in another browser. Begin anew in the client.</p>`

export const goingOnBody = (path: string): Html => html`<div class="narrow"><p>One moment, back to the client. <a href="${path}">Go on</a></p></div>`
