import { createHash } from 'node:crypto'
import { instantText, momentText } from '../encoding/moment.ts'
import type { ChaperoneError } from '../errors.ts'
import type { WebSession } from '../signin/browser.ts'
import { type Html, html } from './html.ts'
import { SCRIPT } from './script.ts'
import { STYLE } from './style.ts'

const named = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** Files by their path, which changes with what is in them. */
export const ASSETS: ReadonlyMap<string, { readonly text: string; readonly type: string }> = new Map([
  [`/assets/${named(STYLE)}.css`, { text: STYLE, type: 'text/css; charset=utf-8' }],
  [`/assets/${named(SCRIPT)}.js`, { text: SCRIPT, type: 'text/javascript; charset=utf-8' }],
])
const [stylePath, scriptPath] = [...ASSETS.keys()] as [string, string]

export interface Layout {
  readonly title: string
  readonly body: Html
  /** of whoever is signed in */
  readonly web?: WebSession
  readonly here?: 'requests' | 'account'
  /** what went wrong */
  readonly error?: Pick<ChaperoneError, 'message' | 'fix'>
  /** The page goes on to this path by itself. */
  readonly goOn?: string
}

export function layout(trustDomain: string, { title, body, web, here, error, goOn }: Layout): Html {
  return html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
${web && html`<meta name="form-token" content="${web.token}">`}
${goOn !== undefined && html`<meta http-equiv="refresh" content="0; url=${goOn}">`}
<title>${title} · Chaperone</title>
<link rel="stylesheet" href="${stylePath}">
<script src="${scriptPath}" defer></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top"><div>
<a class="brand" href="/requests">Chaperone</a>
${
  web &&
  html`<nav aria-label="Main">
${link('/requests', 'Requests', here === 'requests')}
${link('/account', 'Account', here === 'account')}
<form method="post" action="/signout"><input type="hidden" name="token" value="${web.token}"><button class="text">Sign out ${web.session.principal.name}</button></form>
</nav>`
}
</div></header>
<main id="main">
<div class="alert" id="alert" role="alert" tabindex="-1" ${error ? 'autofocus' : 'hidden'}>${error && html`<strong>${error.message}</strong> ${error.fix}`}</div>
${body}
</main>
<footer>${trustDomain}</footer>
</body>
</html>`
}

const link = (path: string, text: string, current: boolean) =>
  current ? html`<a href="${path}" aria-current="page">${text}</a>` : html`<a href="${path}">${text}</a>`

/** A moment as people of every zone read it alike: `2026-11-22 13:00:05Z`. */
export const moment = (at: number): Html => html`<time datetime="${instantText(at)}">${momentText(at)}</time>`
