import type { Hono } from 'hono'
import { type ChaperoneError, REASONS } from '../errors.ts'
import type { Factor } from '../identity/types.ts'
import { codeOf } from '../signin/device.ts'
import { deviceBody, deviceCodeBody, deviceDoneBody } from './device-view.ts'
import { type Doors, expected, signedInFor } from './doors.ts'
import type { Fields } from './forms.ts'
import type { PagesParts } from './parts.ts'
import { codeIn, type Env, passkeyIn, placeOf, type SignedInVisit, textOf } from './visit.ts'

/** A terminal waits to be signed in; its person says so here, in any browser. */
export function deviceRoutes(app: Hono<Env>, { devices, passkeys, signin, places }: PagesParts, doors: Doors): void {
  const { form, signedIn } = doors

  const start = (visit: SignedInVisit, code: string, error?: ChaperoneError) =>
    doors.page(
      visit,
      { title: 'Sign in a terminal', body: deviceCodeBody(visit.web.token, code, places.line), ...(error ? { error } : {}) },
      error ? { status: REASONS[error.code].http } : {},
    )

  async function asked(visit: SignedInVisit, code: string, error?: ChaperoneError): Promise<Response> {
    const asking = await devices.look(visit.web.session, code)
    const needs = await devices.needs(visit.web.session)
    const body = deviceBody({ web: visit.web, asking, needs, possible: visit.place !== undefined, elsewhere: doors.home()?.origin })
    return doors.page(
      visit,
      { title: 'Sign in this terminal?', body, ...(error ? { error } : {}) },
      error ? { status: REASONS[error.code].http } : {},
    )
  }

  async function factorIn(visit: SignedInVisit, fields: Fields, id: string): Promise<Factor | undefined> {
    const answer = passkeyIn(fields)
    const code = codeIn(fields)
    if (answer) {
      await passkeys.factor(visit.web.session, answer, { terminal: id }, placeOf(visit))
      return 'passkey'
    }
    if (code === '') return undefined
    await signin.factor(visit.web.session, code)
    return 'totp'
  }

  app.get(
    '/device',
    signedIn(async (visit) => start(visit, codeOf(visit.context.req.query('code') ?? '') ?? '')),
  )
  app.post(
    '/device',
    form(async (visit, fields) => {
      const code = fields.get('user_code') ?? ''
      try {
        return await asked(visit, code)
      } catch (error) {
        return start(visit, code, expected(error))
      }
    }),
  )
  app.post(
    '/device/passkey',
    doors.script(async (given, said) => {
      const visit = signedInFor(given)
      const { id } = await devices.look(visit.web.session, textOf(said.user_code))
      return passkeys.startFactor(visit.web.session, { terminal: id }, placeOf(visit))
    }),
  )
  app.post(
    '/device/decide',
    form(async (visit, fields) => {
      const code = fields.get('user_code') ?? ''
      // What a passkey sends has no button in it; it has signed a yes to this terminal, and is no way to say no.
      const verdict = (fields.get('verdict') ?? (passkeyIn(fields) ? 'yes' : 'no')) === 'yes' ? 'yes' : 'no'
      try {
        const { id, host } = await devices.look(visit.web.session, code)
        const factor = verdict === 'yes' ? await factorIn(visit, fields, id) : undefined
        await devices.decide(visit.web.session, id, verdict, factor)
        return doors.page(visit, { title: verdict === 'yes' ? 'Done' : 'Refused', body: deviceDoneBody(verdict, host) })
      } catch (thrown) {
        const error = expected(thrown)
        return error.code === 'factor_invalid' || error.code === 'factor_required' ? asked(visit, code, error) : start(visit, code, error)
      }
    }),
  )
}
