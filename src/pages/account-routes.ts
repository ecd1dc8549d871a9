import type { Hono } from 'hono'
import { ChaperoneError, REASONS } from '../errors.ts'
import { accountBody } from './account-view.ts'
import { clearCookie, SESSION_COOKIE } from './cookies.ts'
import { type Doors, expected, signedInFor } from './doors.ts'
import { enrolBody } from './entrance.ts'
import type { PagesParts } from './parts.ts'
import { type Env, passkeyIn, placeOf, type SignedInVisit, textOf } from './visit.ts'

/** A person's own passkeys, known browsers, and what is signed in. */
export function accountRoutes(app: Hono<Env>, { browsers, passkeys, signin, directories, secondStep }: PagesParts, doors: Doors): void {
  const { answers, form } = doors

  async function account(visit: SignedInVisit, error?: ChaperoneError): Promise<Response> {
    const { session } = visit.web
    const [keys, known, mayBegin, accounts] = await Promise.all([
      passkeys.list(session),
      browsers.browsers(session),
      secondStep.may(session),
      directories.accountsOf(session.principal.identityId),
    ])
    const body = accountBody({
      web: visit.web,
      passkeys: keys,
      browsers: known,
      secondStep: mayBegin,
      accounts,
      directories: directories.list().filter(({ name }) => !accounts.some((one) => one.directory === name)),
      possible: visit.place !== undefined,
      elsewhere: doors.home()?.origin,
    })
    return doors.page(
      visit,
      { title: 'Account', here: 'account', body, ...(error ? { error } : {}) },
      error ? { status: REASONS[error.code].http } : {},
    )
  }

  app.get(
    '/account',
    doors.signedIn((visit) => account(visit)),
  )
  app.post(
    '/account/second-step',
    form(async (visit) => {
      try {
        const secret = await secondStep.begin(visit.web.session)
        return doors.page(undefined, { title: 'Second step', body: enrolBody(await signin.beginEnrol(secret), secret) })
      } catch (error) {
        return account(visit, expected(error))
      }
    }),
  )
  app.post(
    '/account/passkeys/start',
    doors.script(async (visit, asked) => {
      const { session } = signedInFor(visit).web
      const place = placeOf(visit)
      // Each time: a cookie that was stolen must not enrol a key of the thief.
      await signin.factor(session, textOf(asked.code).replace(/\s+/g, ''))
      return passkeys.startAdding(session, place)
    }),
  )
  app.post(
    '/account/passkeys',
    form(async (visit, fields) => {
      try {
        const answer = passkeyIn(fields)
        if (!answer) throw new ChaperoneError('factor_invalid', 'No passkey was made.')
        await passkeys.add(visit.web.session, answer, fields.get('name') ?? '', placeOf(visit))
        return answers.goTo('/account')
      } catch (error) {
        return account(visit, expected(error))
      }
    }),
  )
  app.post(
    '/account/passkeys/remove',
    form(async ({ web }, fields) => {
      await passkeys.remove(web.session, fields.get('id') ?? '')
      return answers.goTo('/account')
    }),
  )
  app.post(
    '/account/browsers/forget',
    form(async ({ web }, fields) => {
      await browsers.forget(web.session, fields.get('id') ?? '')
      return answers.goTo('/account')
    }),
  )
  app.post(
    '/account/signout',
    form(async ({ web }) => {
      await browsers.signOutEverywhere(web.session)
      return answers.goTo('/signin', { cookies: [clearCookie(SESSION_COOKIE)] })
    }),
  )
}
