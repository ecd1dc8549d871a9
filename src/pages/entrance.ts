import type { Offer } from '../signin/enrol.ts'
import { codeField, noPasskeys, passkeyButton } from './fields.ts'
import { type Html, html } from './html.ts'
import { qrCode } from './qr.ts'

/** The pages that somebody sees who is not signed in. They say nothing of what he wanted to see, not even whether it exists. */

export interface SignInPage {
  /** whose browser it is, when it is known */
  readonly name: string | undefined
  readonly next: string
  readonly passkeys: boolean
  /** Where passkeys work, when they do not here. */
  readonly elsewhere: string | undefined
  /** He proved who he is, but a role leaves no room for one more session. */
  readonly full: boolean
  /** of the company, at which one can sign in */
  readonly directories: readonly { readonly name: string; readonly title: string }[]
}

export function signInBody({ name, next, passkeys, elsewhere, full, directories }: SignInPage): Html {
  const end =
    full && html`<label class="choice"><input type="checkbox" name="end" value="oldest"> <span>End the oldest session and sign in here</span></label>`
  const wanted = /&with=([a-z0-9._-]+)$/.exec(next)?.[1]
  const company = [...directories]
    .sort((a, b) => Number(b.name === wanted) - Number(a.name === wanted))
    .map(
      (one) =>
        html`<form method="post" action="/signin/with"><input type="hidden" name="next" value="${next}"><input type="hidden" name="directory" value="${one.name}"><div class="buttons"><button>Sign in with ${one.title}</button></div></form>`,
    )
  const unknown = wanted !== undefined && !directories.some(({ name }) => name === wanted)
  return html`<div class="narrow"><h1>Sign in</h1>
${unknown && html`<p class="hint">There is no directory <strong>${wanted}</strong> to sign in at here${directories.length > 0 && ': take one of these'}.</p>`}
${company}
${
  name === undefined
    ? html`<p>This browser is not known here yet. On a machine where you are signed in, run</p><pre>chaperone browser</pre><p>and open the link that it prints in this browser. If you have an invitation that you have not used, <a href="/enrol">open it here</a>.</p>`
    : html`<form class="card" method="post" action="/signin"><p>Known browser of <strong>${name}</strong>.</p><input type="hidden" name="next" value="${next}">${codeField('code')}${end}<div class="buttons"><button>Sign in</button></div></form>`
}
${
  passkeys
    ? html`<form method="post" action="/signin/passkey"><input type="hidden" name="next" value="${next}">${end}${passkeyButton('sign-in', '/signin/passkey/start', 'Sign in with a passkey')}</form>`
    : noPasskeys(elsewhere)
}
</div>`
}

/** An invitation, or a link for this browser: its secret stands behind the # of the address; without the script it is pasted. */
export function secretBody({ title, action, label, text }: { title: string; action: string; label: string; text: string }): Html {
  return html`<div class="narrow"><h1>${title}</h1><p>${text}</p>
<form class="card" method="post" action="${action}" autocomplete="off"><label for="secret">${label}</label>
<input id="secret" name="secret" type="password" maxlength="512" required data-from-fragment><div class="buttons"><button>Go on</button></div></form></div>`
}

export function enrolBody({ name, trustDomain, totp }: Offer, secret: string): Html {
  return html`<div class="narrow"><h1>Welcome, ${name}</h1>
<p>You are invited to <strong>${trustDomain}</strong>. Scan this with an authenticator app on your telephone, where no agent on this machine can read it.</p>
${qrCode(totp.uri, 'QR code for an authenticator app')}
<details><summary>It cannot be scanned</summary><p>Type this secret into the app:</p><pre>${totp.secret}</pre><p class="small">or give it the whole line:</p><pre>${totp.uri}</pre></details>
<form class="card" method="post" action="/enrol/finish" autocomplete="off"><input type="hidden" name="secret" value="${secret}">
<label for="code">The code that it shows now</label>
<input class="code" id="code" name="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="9" required>
<p class="small">This browser becomes known as yours for 90 days: signing in takes a code from then on.</p>
<div class="buttons"><button>Sign in</button></div></form></div>`
}

/**
 * A link in a chat or a mail brings no cookies that are SameSite=Strict, so who is signed in seems not to be. This page of ours goes to
 * the same address once more, and that navigation is our own.
 */
export const landingBody = (path: string): Html => html`<div class="narrow"><p>One moment. <a href="${path}">Go on</a></p></div>`
