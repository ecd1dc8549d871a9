import type { KnownBrowser, WebSession } from '../signin/browser.ts'
import type { KnownPasskey } from '../signin/passkey.ts'
import { codeField, noPasskeys, passkeyButton, tokenField } from './fields.ts'
import { type Html, html } from './html.ts'
import { moment } from './layout.ts'

export interface AccountPage {
  readonly web: WebSession
  readonly passkeys: readonly KnownPasskey[]
  readonly browsers: readonly KnownBrowser[]
  /** He has no factor of ours, and may begin one now; `late`: when he signs in anew. */
  readonly secondStep: 'yes' | 'late' | 'no'
  readonly accounts: readonly { readonly directory: string; readonly userName: string }[]
  /** Those at which he has no account yet. */
  readonly directories: readonly { readonly name: string; readonly title: string }[]
  /** Passkeys work under this address. */
  readonly possible: boolean
  /** Where they work, when they do not here. */
  readonly elsewhere: string | undefined
}

export function accountBody({ web, passkeys, browsers, secondStep, accounts, directories, possible, elsewhere }: AccountPage): Html {
  const token = tokenField(web.token)
  const remove = (action: string, id: string, text: string, what: string) =>
    html`<form method="post" action="${action}">${token}<input type="hidden" name="id" value="${id}"><button class="text" aria-label="${text} ${what}">${text}</button></form>`
  return html`<h1>${web.session.principal.name}</h1>
${
  secondStep !== 'no' &&
  html`<div class="card"><h2>Second step</h2><p>To decide about requests you need an authenticator app or a passkey of your own.</p>${
    secondStep === 'yes'
      ? html`<form method="post" action="/account/second-step">${token}<div class="buttons"><button>Set up an authenticator app</button></div></form>`
      : html`<p>You signed in a while ago: sign out, sign in again, and come back here within five minutes.</p>`
  }</div>`
}
<h2>Passkeys</h2>
<p class="small">With a passkey you sign in and decide in one step, in any browser that has it.</p>
${
  passkeys.length === 0
    ? html`<p>None yet.</p>`
    : html`<ul class="plain">${passkeys.map(
        ({ id, name, createdAt, lastUsedAt }) =>
          html`<li class="row"><span><strong>${name}</strong><br><span class="small">since ${moment(createdAt)}${lastUsedAt !== undefined && html`, last used ${moment(lastUsedAt)}`}</span></span>${remove('/account/passkeys/remove', id, 'Remove', name)}</li>`,
      )}</ul>`
}
${
  possible
    ? html`<details class="card"><summary>Add a passkey</summary><form method="post" action="/account/passkeys" autocomplete="off">${token}
<label for="key-name">What to call it</label><input id="key-name" name="name" maxlength="64" required placeholder="laptop">
${codeField('key-code')}<noscript><p>Passkeys need JavaScript.</p></noscript>
<div class="buttons">${passkeyButton('add', '/account/passkeys/start', 'Add a passkey', '')}</div></form></details>`
    : noPasskeys(elsewhere)
}
<h2>Known browsers</h2>
<p class="small">In these, a code of your authenticator app signs you in. Make another one known with <code>chaperone browser</code>.</p>
${
  browsers.length === 0
    ? html`<p>None.</p>`
    : html`<ul class="plain">${browsers.map(
        ({ id, name, lastUsedAt, expiresAt }) =>
          html`<li class="row"><span><strong>${name}</strong>${id === web.browserId && ' (this one)'}<br><span class="small">last used ${moment(lastUsedAt)}, known until ${moment(expiresAt)}</span></span>${remove('/account/browsers/forget', id, 'Forget', name)}</li>`,
      )}</ul>`
}
<h2>Who acts for you</h2>
<p><a href="/account/delegations">Programs and agents that act on your behalf</a></p>
${
  (accounts.length > 0 || directories.length > 0) &&
  html`<h2>Company accounts</h2>
${accounts.length > 0 && html`<ul class="plain">${accounts.map((one) => html`<li class="row"><span><strong>${one.userName}</strong><br><span class="small">${one.directory}</span></span></li>`)}</ul>`}
${
  secondStep === 'no' &&
  directories.map(
    (one) =>
      html`<details class="card"><summary>Link my account of ${one.title}</summary><form method="post" action="/account/link" autocomplete="off">${token}<input type="hidden" name="directory" value="${one.name}">${codeField(`link-${one.name}`)}<div class="buttons"><button>Link it</button></div></form></details>`,
  )
}`
}
<h2>Signed in</h2>
<form method="post" action="/account/signout">${token}<button class="no">Sign out of every browser</button></form>`
}
