import type { Hono } from 'hono'
import { ChaperoneError, REASONS } from '../errors.ts'
import { parseInvitation } from '../identity/invitations.ts'
import type { Coming } from '../signin/browser.ts'
import { BROWSER_COOKIE, clearCookie, SESSION_COOKIE, setCookie } from './cookies.ts'
import { type Doors, expected } from './doors.ts'
import { enrolBody, secretBody } from './entrance.ts'
import { type Fields, readForm } from './forms.ts'
import type { PagesParts } from './parts.ts'
import { browserName, codeIn, type Env, nextIn, passkeyIn, placeOf, type Visit } from './visit.ts'

const INVITATION = {
  title: 'Open an invitation',
  action: '/enrol',
  label: 'Invitation',
  text: 'The invitation that you were given: its whole line, or the secret in it. If you opened it as a link, it is filled in.',
}
const LINK = {
  title: 'Make this browser known',
  action: '/browser',
  label: 'Secret of the link',
  text: 'The link that `chaperone browser` printed, or what stands behind its #. If you opened it here, it is filled in. Go on only if you made it yourself.',
}

/** The secret, or the whole line or address that it was given in. Throws `invitation_invalid`. */
function secretIn(fields: Fields): string {
  const given = (fields.get('secret') ?? '').trim()
  return given.startsWith('chaperone://') ? parseInvitation(given).secret : (/#([A-Za-z0-9_-]{43})$/.exec(given)?.[1] ?? given)
}

/** What is signed in in this browser already is over with the next sign-in; another one only when he says so. */
const comingIn = ({ web }: Visit, fields: Fields): Coming => ({ before: web, endOldest: fields.get('end') === 'oldest' })

/** How a person comes in, and goes. */
export function entranceRoutes(app: Hono<Env>, { browsers, passkeys, signin, clock }: PagesParts, doors: Doors): void {
  const { answers, open, page } = doors
  const start = (asked: typeof INVITATION, thrown?: unknown) => {
    const error = thrown === undefined ? undefined : expected(thrown)
    return page(
      undefined,
      { title: asked.title, body: secretBody(asked), ...(error ? { error } : {}) },
      error ? { status: REASONS[error.code].http } : {},
    )
  }

  app.get(
    '/signin',
    open(async (visit) => (visit.web ? answers.goTo('/requests') : doors.signIn(visit))),
  )
  app.post(
    '/signin',
    open(async (visit) => {
      const fields = await readForm(visit.request)
      const next = nextIn(fields.get('next'))
      try {
        return doors.entered(await browsers.signIn(visit.browser, codeIn(fields), comingIn(visit, fields)), next)
      } catch (error) {
        return doors.signIn(visit, { error: expected(error), next })
      }
    }),
  )
  app.post(
    '/signin/passkey/start',
    doors.script((visit) => passkeys.startSignIn(placeOf(visit))),
  )
  app.post(
    '/signin/passkey',
    open(async (visit) => {
      const fields = await readForm(visit.request)
      const next = nextIn(fields.get('next'))
      try {
        const answer = passkeyIn(fields)
        if (!answer) throw new ChaperoneError('factor_invalid', 'No passkey was used.')
        const coming = { ...comingIn(visit, fields), browser: visit.browser }
        return doors.entered(await passkeys.signIn(answer, placeOf(visit), coming), next)
      } catch (error) {
        return doors.signIn(visit, { error: expected(error), next })
      }
    }),
  )

  app.get(
    '/enrol',
    open(async () => start(INVITATION)),
  )
  app.post(
    '/enrol',
    open(async ({ request }) => {
      try {
        const secret = secretIn(await readForm(request))
        return page(undefined, { title: 'Enrol', body: enrolBody(await signin.beginEnrol(secret), secret) })
      } catch (error) {
        return start(INVITATION, error)
      }
    }),
  )
  app.post(
    '/enrol/finish',
    open(async ({ request, web }) => {
      const fields = await readForm(request)
      const secret = secretIn(fields)
      try {
        const name = browserName(request.headers.get('user-agent'))
        const enrolled = await browsers.enrol({ secret, code: codeIn(fields), name, before: web })
        return doors.entered(enrolled.session, '/requests', [setCookie(BROWSER_COOKIE, enrolled.browser, clock.now())])
      } catch (thrown) {
        const error = expected(thrown)
        if (error.code !== 'factor_invalid') return start(INVITATION, error)
        // A new secret, as with the CLI: one that was on a screen and did not work out is worth nothing any more.
        const body = enrolBody(await signin.beginEnrol(secret), secret)
        const said = { message: error.message, fix: 'Scan the new code below, which replaces the one before, and try again.' }
        return page(undefined, { title: 'Enrol', body, error: said }, { status: REASONS[error.code].http })
      }
    }),
  )

  app.get(
    '/browser',
    open(async () => start(LINK)),
  )
  app.post(
    '/browser',
    open(async ({ request, browser }) => {
      try {
        const cookie = await browsers.useLink(secretIn(await readForm(request)), browserName(request.headers.get('user-agent')), browser)
        return answers.goTo('/signin', { cookies: [setCookie(BROWSER_COOKIE, cookie, clock.now())] })
      } catch (error) {
        return start(LINK, error)
      }
    }),
  )

  app.post(
    '/signout',
    doors.form(async ({ web }) => {
      await browsers.signOut(web)
      return answers.goTo('/signin', { cookies: [clearCookie(SESSION_COOKIE)] })
    }),
  )
}
