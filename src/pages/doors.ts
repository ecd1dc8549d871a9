import { isIP } from 'node:net'
import type { Context } from 'hono'
import { ChaperoneError, REASONS, type ReasonCode, toChaperoneError } from '../errors.ts'
import type { Cookie } from '../signin/browser.ts'
import { knocking } from '../signin/knocking.ts'
import type { Place } from '../signin/passkey.ts'
import { type AnswerOptions, makeAnswers } from './answer.ts'
import { BROWSER_COOKIE, cookieIn, SESSION_COOKIE, setCookie } from './cookies.ts'
import { landingBody, signInBody } from './entrance.ts'
import { assertOwn, assertToken, type Fields, readForm, readJson } from './forms.ts'
import { html } from './html.ts'
import { type Layout, layout } from './layout.ts'
import type { PagesParts } from './parts.ts'
import { type Env, nextIn, type SignedInVisit, type Visit } from './visit.ts'

/** These say that nobody is signed in (any more): the page is then the one to sign in. */
const SIGNED_OUT: ReadonlySet<ReasonCode> = new Set(['unauthenticated', 'session_ended', 'credential_expired', 'identity_disabled', 'locked'])

type Handler = (context: Context<Env>) => Promise<Response>

/**
 * The ways into a page. There are four, and every route is behind one of them:
 *
 *   open      anybody; what is posted must come from our own pages
 *   signedIn  whoever is signed in; everybody else sees the sign-in, whatever lies behind it
 *   form      a form of the very session that is signed in
 *   script    what the script of a page asks, as JSON
 */
export interface Doors {
  readonly answers: ReturnType<typeof makeAnswers>
  /** Where passkeys work, if anywhere. */
  home(): Place | undefined
  page(visit: Pick<Visit, 'web'> | undefined, content: Omit<Layout, 'web'>, more?: AnswerOptions): Response
  /** The same for what does not exist and for what is not for this person (rule 8). */
  nothing(visit: Pick<Visit, 'web'>): Response
  failed(visit: Pick<Visit, 'web'> | undefined, thrown: unknown, where: string): Response
  signIn(visit: Visit, more?: { readonly error?: ChaperoneError; readonly next?: string }): Promise<Response>
  /** Signed in: on to the page that was wanted. */
  entered(cookie: Cookie, next: string, more?: readonly string[]): Response
  open(work: (visit: Visit) => Promise<Response>): Handler
  signedIn(work: (visit: SignedInVisit) => Promise<Response>): Handler
  form(work: (visit: SignedInVisit, fields: Fields) => Promise<Response>): Handler
  script(work: (visit: Visit, asked: Readonly<Record<string, unknown>>) => Promise<unknown>): Handler
}

/** Of ours, for the log. What is not offered (501) anybody can ask for, and would fill the log with it. */
const isFault = ({ code }: ChaperoneError): boolean => REASONS[code].http >= 500 && code !== 'unsupported'

/** The error, when it is one that the person can do something about; everything else is a fault and goes on. */
export function expected(thrown: unknown): ChaperoneError {
  const error = toChaperoneError(thrown)
  if (isFault(error)) throw error
  return error
}

/** Who is signed in, for what a script asks. Throws `unauthenticated`, `foreign_origin`. */
export function signedInFor(visit: Visit): SignedInVisit {
  if (!visit.web) throw new ChaperoneError('unauthenticated', 'You are no longer signed in.', { fix: 'Load the page again.' })
  assertToken(visit.web, visit.request.headers.get('x-form-token'))
  return visit as SignedInVisit
}

export function makeDoors(parts: PagesParts): Doors {
  const { browsers, clock, trustDomain } = parts
  /**
   * The one place where passkeys count. It is ours and not what a Host header says: a page on another port of this host could ask a
   * person for his passkey, and hand the answer on with its own address.
   */
  const home = (): Place | undefined => {
    const { hostname, origin } = new URL(`https://${parts.places.web}`)
    return isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? { rpId: hostname, origin } : undefined
  }
  const answers = makeAnswers(() => home()?.rpId)

  const page: Doors['page'] = (visit, content, more = {}) =>
    answers.page(layout(trustDomain, { ...content, ...(visit?.web ? { web: visit.web } : {}) }), more)

  const signedOut = (error: unknown): undefined => {
    if (!SIGNED_OUT.has(toChaperoneError(error).code)) throw error
  }

  async function visitOf(context: Context<Env>): Promise<Visit> {
    const request = context.req.raw
    const url = new URL(request.url)
    const cookies = request.headers.get('cookie')
    const secret = cookieIn(cookies, SESSION_COOKIE)
    const web = secret === undefined ? undefined : await browsers.open(secret).catch(signedOut)
    return {
      context,
      request,
      path: url.pathname,
      whole: `${url.pathname}${url.search}`,
      browser: cookieIn(cookies, BROWSER_COOKIE),
      place: home()?.origin === url.origin ? home() : undefined,
      ...(web ? { web } : {}),
    }
  }

  /**
   * Whoever has a session or a known browser is counted by that, and only strangers by their address: from there anybody can send
   * anything, and would shut out the approver who sits behind the same one (a proxy, or 127.0.0.1 with his agents beside him).
   */
  const assertNotTooOften = async ({ web, browser, context }: Visit) => {
    const known = web ? undefined : await browsers.known(browser)
    parts.guesses(web?.session.id ?? (known ? `browser of ${known.name}` : context.env.remote), 'pages')
  }

  const doors: Doors = {
    answers,
    home,
    page,

    nothing: (visit) =>
      page(
        visit,
        { title: 'Nothing here', body: html`<h1>There is nothing here</h1><p>Or nothing for you. <a href="/requests">Your requests</a></p>` },
        { status: 404 },
      ),

    failed(visit, thrown, where) {
      const error = toChaperoneError(thrown)
      const { http } = REASONS[error.code]
      if (isFault(error)) parts.log(error, where)
      if (error.code === 'not_found' && visit) return doors.nothing(visit)
      const body = html`<h1>That did not work</h1><p><a href="/requests">Your requests</a></p>`
      return page(visit, { title: 'That did not work', body, error }, { status: http })
    },

    async signIn({ browser, place, whole }, { error, next } = {}) {
      const known = await browsers.known(browser)
      const body = signInBody({
        name: known?.name,
        next: nextIn(next ?? whole.replace(/[?&]on=1$/, '')),
        directories: parts.directories.list(),
        passkeys: place !== undefined,
        elsewhere: home()?.origin,
        full: error?.code === 'too_many',
      })
      return page(undefined, { title: 'Sign in', body, ...(error ? { error } : {}) }, { status: error ? REASONS[error.code].http : 401 })
    },

    entered: (cookie, next, more = []) => answers.goTo(next, { cookies: [...more, setCookie(SESSION_COOKIE, cookie, clock.now())] }),

    open: (work) => async (context) => {
      let visit: Visit | undefined
      try {
        const posted = context.req.method === 'POST'
        if (posted) assertOwn(context.req.raw)
        visit = await visitOf(context)
        if (posted) await assertNotTooOften(visit)
        const known = visit
        return await knocking(context.env.remote, () => work(known))
      } catch (error) {
        return doors.failed(visit, error, `${context.req.method} ${context.req.path}`)
      }
    },

    signedIn: (work) =>
      doors.open(async (visit) => {
        const { web, request, context } = visit
        if (web) {
          web.session.touch?.()
          return work(visit as SignedInVisit)
        }
        if (request.method !== 'GET') return answers.goTo(nextIn(visit.path.split('/').slice(0, 3).join('/')))
        const site = request.headers.get('sec-fetch-site')
        // Came from elsewhere: the browser has kept the cookies to itself. With the mark this happens once.
        if ((site === 'cross-site' || site === 'same-site') && context.req.query('on') === undefined) {
          const to = nextIn(visit.whole)
          const path = `${to}${to.includes('?') ? '&' : '?'}on=1`
          return page(undefined, { title: 'One moment', body: landingBody(path), goOn: path })
        }
        return doors.signIn(visit)
      }),

    form: (work) =>
      doors.signedIn(async ({ context, request }) => {
        const fields = await readForm(request)
        // Its last byte may come a minute after its first: who was locked or thrown out meanwhile sends nothing any more.
        const visit = await visitOf(context)
        if (!visit.web) return doors.signIn(visit, { error: new ChaperoneError('session_ended', 'You are no longer signed in; nothing was done.') })
        assertToken(visit.web, fields.get('token'))
        return work(visit as SignedInVisit, fields)
      }),

    script: (work) => async (context) => {
      try {
        assertOwn(context.req.raw)
        await assertNotTooOften(await visitOf(context))
        // Read before it is asked who sends it, for the same reason as a form.
        const asked = await readJson(context.req.raw)
        const visit = await visitOf(context)
        return answers.json(await knocking(context.env.remote, () => work(visit, asked)))
      } catch (thrown) {
        const error = toChaperoneError(thrown)
        const { http } = REASONS[error.code]
        if (isFault(error)) parts.log(error, `${context.req.method} ${context.req.path}`)
        return answers.json({ error: { message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) } }, { status: http })
      }
    },
  }
  return doors
}
