import type { Hono } from 'hono'
import { applierOf } from '../api/caller.ts'
import { ownLoginAt } from '../api/mcp-login.ts'
import { ChaperoneError } from '../errors.ts'
import { type By, CONNECT_PATH, connectBack } from '../vault/logins.ts'
import { type Doors, expected } from './doors.ts'
import { tokenField } from './fields.ts'
import { html } from './html.ts'
import type { PagesParts } from './parts.ts'
import type { Env, SignedInVisit } from './visit.ts'

/** A person logs in at an MCP server that wants a login of each, there and back. The token stays here: no page and no client sees it. */
export function connectRoutes(app: Hono<Env>, parts: PagesParts, doors: Doors): void {
  const { logins, places, state } = parts
  const byOf = ({ web }: SignedInVisit): By => {
    const { holds: _, ...who } = applierOf(parts, web.session)
    return { ...who, credential: web.session.principal.credentialId }
  }
  const identityOf = ({ web }: SignedInVisit) => web.session.principal.identityId
  const serverOf = (visit: SignedInVisit) => ownLoginAt(parts, visit.web.session, visit.context.req.param('name') ?? '')

  app.get(
    `${CONNECT_PATH}/.back`,
    doors.signedIn(async (visit) => {
      const query = new URL(visit.request.url).searchParams
      const of = (name: string) => query.get(name)?.slice(0, 8192) || undefined
      const stateOf = of('state')
      try {
        const began = stateOf === undefined ? undefined : await logins.began(stateOf, identityOf(visit))
        const found = state
          .current()
          .list('mcp')
          .find(({ resource }) => resource.id === began?.resource)
        if (stateOf === undefined || !found)
          throw new ChaperoneError(
            'conflict',
            'There is no such login: it was used already, it took longer than ten minutes, or somebody else began it.',
          )
        const server = ownLoginAt(parts, visit.web.session, found.resource.name)
        const answer = { state: stateOf, code: of('code'), iss: of('iss'), error: of('error') }
        await logins.finish(server, answer, { identity: identityOf(visit), by: byOf(visit) })
        return doors.page(visit, {
          title: 'Connected',
          body: html`<div class="narrow"><h1>Connected</h1><p>You are logged in at <strong>${server.name}</strong>. Go back to your client, and ask again.</p></div>`,
        })
      } catch (thrown) {
        return failed(visit, thrown)
      }
    }),
  )

  app.get(
    `${CONNECT_PATH}/:name`,
    doors.signedIn(async (visit) => {
      const { name, spec } = serverOf(visit)
      return doors.page(visit, {
        title: `Log in at ${name}`,
        body: html`<div class="narrow"><h1>Log in at ${name}</h1>
<p>Chaperone will use your account at <strong>${new URL(spec.url ?? 'https://none').host}</strong> for what you do there, and for what your agents do there on your behalf. It keeps the login sealed and shows it to nobody, your clients included.</p>
<form method="post" action="${CONNECT_PATH}/${name}">${tokenField(visit.web.token)}<div class="buttons"><button>Go on to the login</button></div></form>
<p class="small">To end it later: <code>chaperone mcp logout ${name}</code></p></div>`,
      })
    }),
  )

  app.post(
    `${CONNECT_PATH}/:name`,
    doors.form(async (visit) => {
      try {
        const server = serverOf(visit)
        const identity = identityOf(visit)
        const { url } = await logins.begin(server, { subject: identity, identity, redirect: connectBack(places.web), by: byOf(visit) })
        // By a page: a browser holds `form-action 'self'` against every address that a form leads to.
        return doors.page(visit, {
          title: 'Logging in',
          body: html`<div class="narrow"><h1>Logging in</h1><p>You go on to <strong>${new URL(url).host}</strong>.</p><p><a class="button" href="${url}">Go on</a></p></div>`,
          goOn: url,
        })
      } catch (thrown) {
        return failed(visit, thrown)
      }
    }),
  )

  /** That the server cannot be reached, or wants something else, is for the person to read. */
  function failed(visit: SignedInVisit, thrown: unknown): Response {
    const upstream = thrown instanceof ChaperoneError && (thrown.code === 'upstream_unavailable' || thrown.code === 'upstream_timeout')
    const error = upstream ? thrown : expected(thrown)
    if (error.code === 'not_found') return doors.nothing(visit)
    return doors.page(visit, { title: 'Not connected', body: html`<h1>Not connected</h1>`, error }, { status: upstream ? 502 : 409 })
  }
}
