import { type Html, html } from './html.ts'

/** Where a code of the authenticator is typed. `id` tells several on one page apart. */
export const codeField = (id: string): Html => html`<label for="${id}">Code from your authenticator app</label>
<input class="code" id="${id}" name="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="9" aria-describedby="${id}-hint">
<p class="small" id="${id}-hint">Each code works once, and here for this alone: if you have just used one, wait for the next.</p>`

/** The directory whose sign-in alone is his second step; `ready`: he has just given it. */
export interface CompanyStep {
  readonly directory: string
  readonly title: string
  readonly ready: boolean
}

/** Where a code of ours is asked; for whom his company's sign-in counts alone, that. `next`: where he goes on after it. */
export const stepField = (id: string, company: CompanyStep | undefined, next: string): Html =>
  company === undefined
    ? codeField(id)
    : company.ready
      ? html`<p class="hint">You have just signed in at ${company.title}: that is your second step.</p>`
      : html`<p class="hint">Your second step is the sign-in at ${company.title}, of the last five minutes.</p>
<input type="hidden" name="directory" value="${company.directory}"><input type="hidden" name="next" value="${next}"><input type="hidden" name="fresh" value="1">
<div class="buttons"><button class="quiet" formaction="/signin/with" formnovalidate>Sign in at ${company.title} again</button></div>`

/** Shown by the script where the browser has passkeys. */
export const passkeyButton = (what: 'sign-in' | 'add' | 'factor', path: string, text: string, look = 'quiet'): Html =>
  html`<input type="hidden" name="passkey"><button type="button" class="${look}" data-passkey="${what}" data-path="${path}" hidden>${text}</button>`

/** `origin`: where they work, if anywhere. */
export const noPasskeys = (origin: string | undefined): Html =>
  origin === undefined
    ? html`<p class="small">Passkeys belong to a host name, and this server has only an address: there are none here.</p>`
    : html`<p class="small">Passkeys work under <a href="${origin}">${origin}</a> only, not under this address.</p>`

export const tokenField = (token: string): Html => html`<input type="hidden" name="token" value="${token}">`
