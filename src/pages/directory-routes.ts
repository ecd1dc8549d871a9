import type { Hono } from 'hono'
import { ChaperoneError } from '../errors.ts'
import { clearCookie, cookieIn, FLOW_COOKIE, flowCookie } from './cookies.ts'
import { type Doors, expected } from './doors.ts'
import { readForm } from './forms.ts'
import { html } from './html.ts'
import type { PagesParts } from './parts.ts'
import { codeIn, type Env, nextIn, type Visit } from './visit.ts'

/** Signing in at the company's directories, there and back. Each has an address of its own to come back to (RFC 9700, 4.4). */
export function directoryRoutes(app: Hono<Env>, { directories, browsers, signin, places, clock }: PagesParts, doors: Doors): void {
  const { answers, open, form, page } = doors
  const backAt = (directory: string) => `https://${places.web}/signin/with/${encodeURIComponent(directory)}/callback`
  const nameIn = ({ context }: Visit) => context.req.param('name') ?? ''

  /** A form that leads elsewhere is stopped by our own `form-action` (browsers hold redirects to it as well), so this page goes on. */
  const onwards = (visit: Visit, { url, cookie }: Awaited<ReturnType<typeof directories.begin>>) =>
    page(
      visit,
      {
        title: 'Signing in',
        body: html`<div class="narrow"><h1>Signing in</h1><p>You go on to <strong>${new URL(url).host}</strong>.</p><p><a class="button" href="${url}">Go on</a></p></div>`,
        goOn: url,
      },
      { cookies: [flowCookie(cookie, clock.now())] },
    )

  app.post(
    '/signin/with',
    open(async (visit) => {
      const fields = await readForm(visit.request)
      const next = nextIn(fields.get('next'))
      const directory = fields.get('directory') ?? ''
      try {
        return onwards(
          visit,
          await directories.begin(directory, { redirect: backAt(directory), next, fresh: next.startsWith('/device') || fields.get('fresh') === '1' }),
        )
      } catch (error) {
        return doors.signIn(visit, { error: expectedOf(error), next })
      }
    }),
  )

  app.get(
    '/signin/with/:name/callback',
    open(async (visit) => {
      const came = new URL(visit.request.url)
      // Sent by another site: the browser has kept back who is signed in here. Our own page asks once more, and that is ours.
      if (visit.request.headers.get('sec-fetch-site') === 'cross-site' && !came.searchParams.has('on')) {
        const path = `${came.pathname}${came.search}&on=1`
        return page(undefined, {
          title: 'One moment',
          body: html`<div class="narrow"><p>One moment. <a href="${path}">Go on</a></p></div>`,
          goOn: path,
        })
      }
      came.searchParams.delete('on')
      const gone = clearCookie(FLOW_COOKIE)
      try {
        const arrived = await directories.finish(nameIn(visit), came, cookieIn(visit.request.headers.get('cookie'), FLOW_COOKIE))
        if (arrived.linked) return answers.goTo('/account', { cookies: [gone] })
        const { directory, subject, factor, signIn } = arrived
        const session = await browsers.begin(arrived.identity, {
          browser: visit.browser,
          before: visit.web,
          // A directory has asked who he is already; to be told "no room" and asked again would lead nowhere.
          endOldest: true,
          from: { directory, subject, factor, signIn },
        })
        return doors.entered(session, arrived.next, [gone])
      } catch (error) {
        const answer = await doors.signIn(visit, { error: expectedOf(error), next: '/requests' })
        answer.headers.append('Set-Cookie', gone)
        return answer
      }
    }),
  )

  app.post(
    '/account/link',
    form(async (visit, fields) => {
      const { session } = visit.web
      const directory = fields.get('directory') ?? ''
      // Each time: whoever has stolen a cookie must not tie his own account to this person.
      await signin.factor(session, codeIn(fields))
      const link = { identityId: session.principal.identityId, sessionId: session.id }
      return onwards(visit, await directories.begin(directory, { redirect: backAt(directory), next: '/account', fresh: true, link }))
    }),
  )
}

/** What a person reads on the sign-in page; that the provider cannot be reached is also for him to read. */
function expectedOf(thrown: unknown): ChaperoneError {
  if (thrown instanceof ChaperoneError && (thrown.code === 'upstream_unavailable' || thrown.code === 'upstream_timeout'))
    return new ChaperoneError('directory_refused', 'The directory cannot be reached.', { fix: 'Try again in a moment.', cause: thrown })
  return expected(thrown)
}
