import type { WebSession } from '../signin/browser.ts'
import type { Asking, DeviceSignin } from '../signin/device.ts'
import { codeField, noPasskeys, passkeyButton, tokenField } from './fields.ts'
import { type Html, html } from './html.ts'
import { moment } from './layout.ts'

export const deviceCodeBody = (token: string, code: string, server: string | undefined): Html => html`<div class="narrow"><h1>Sign in a terminal</h1>
<p>Type the code that <code>chaperone login</code> shows in your terminal. Go on only if you have just run it yourself: whoever sends you a code wants to be signed in as you.</p>
<form class="card" method="post" action="/device" autocomplete="off">${tokenField(token)}<label for="user_code">Code in your terminal</label>
<input class="code" id="user_code" name="user_code" value="${code}" autocapitalize="characters" spellcheck="false" maxlength="12" required>
<div class="buttons"><button>Go on</button></div></form>
${server !== undefined && html`<details><summary>No terminal shows a code yet</summary><p>In a terminal that was signed in here before, run</p><pre>chaperone login --device</pre><p>and in one that never was</p><pre>chaperone login --device '${server}'</pre></details>`}</div>`

export interface DevicePage {
  readonly web: WebSession
  readonly asking: Asking
  readonly needs: Awaited<ReturnType<DeviceSignin['needs']>>
  readonly possible: boolean
  readonly elsewhere: string | undefined
}

export function deviceBody({ web, asking, needs, possible, elsewhere }: DevicePage): Html {
  const again = needs === 'again'
  const no = again || needs === 'unvouched'
  return html`<div class="narrow"><h1>Sign in this terminal?</h1>
<p>Compare before you say yes. It gets your rights, as <strong>${web.session.principal.name}</strong>, until you sign out there.</p>
<dl><dt>Code</dt><dd class="code"><strong>${asking.code}</strong></dd>
<dt>Asked from the address</dt><dd>${asking.cameFrom}</dd>
<dt>Calls itself</dt><dd>${asking.host === '' ? 'nothing' : asking.host} <span class="small">(as it claims)</span></dd>
<dt>Since</dt><dd>${moment(asking.since)}</dd></dl>
<p>If this code did not come from your own terminal, somebody else wants to be signed in as you: say no.</p>
<form class="card" method="post" action="/device/decide" autocomplete="off">${tokenField(web.token)}<input type="hidden" name="user_code" value="${asking.code}">
${again && html`<p>You signed in too long ago to say yes. Sign out, sign in again, and open the link once more.</p>`}
${needs === 'unvouched' && html`<p>Your company's sign-in said nothing of a second factor, and only that counts here. If you gave one, whoever administers Chaperone compares <code>factor_values</code> with what the provider says.</p>`}
${needs === 'factor' && codeField('device-code')}
<div class="buttons">${!no && html`<button name="verdict" value="yes">Yes, this is my terminal</button>`}
${needs === 'factor' && possible && passkeyButton('factor', '/device/passkey', 'Yes, with a passkey')}
<button class="no" name="verdict" value="no" formnovalidate>No</button></div>
${needs === 'factor' && !possible && noPasskeys(elsewhere)}
</form></div>`
}

export const deviceDoneBody = (verdict: 'yes' | 'no', host: string): Html =>
  verdict === 'yes'
    ? html`<div class="narrow"><h1>Done</h1><p>The terminal${host !== '' && html` on <strong>${host}</strong>`} is signed in within a few seconds. You may close this page.</p></div>`
    : html`<div class="narrow"><h1>Refused</h1><p>The terminal is not signed in. If somebody sent you the code, tell whoever looks after security.</p></div>`
