import { type Html, html } from './html.ts'

/** Where a code of the authenticator is typed. `id` tells several on one page apart. */
export const codeField = (id: string): Html => html`<label for="${id}">Code from your authenticator app</label>
<input class="code" id="${id}" name="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="9" aria-describedby="${id}-hint">
<p class="small" id="${id}-hint">Each code works once, and here for this alone: if you have just used one, wait for the next.</p>`

/** Shown by the script where the browser has passkeys. */
export const passkeyButton = (what: 'sign-in' | 'add' | 'factor', path: string, text: string, look = 'quiet'): Html =>
  html`<input type="hidden" name="passkey"><button type="button" class="${look}" data-passkey="${what}" data-path="${path}" hidden>${text}</button>`

/** `origin`: where they work, if anywhere. */
export const noPasskeys = (origin: string | undefined): Html =>
  origin === undefined
    ? html`<p class="small">Passkeys belong to a host name, and this server has only an address: there are none here.</p>`
    : html`<p class="small">Passkeys work under <a href="${origin}">${origin}</a> only, not under this address.</p>`

export const tokenField = (token: string): Html => html`<input type="hidden" name="token" value="${token}">`
