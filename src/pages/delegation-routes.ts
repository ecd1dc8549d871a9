import type { Hono } from 'hono'
import { ChaperoneError, REASONS } from '../errors.ts'
import { delegationNamed, inNames, listGiven, ownOf, revoke, sidesOf } from '../identity/delegation/list.ts'
import { delegationsBody } from './delegation-view.ts'
import { type Doors, expected } from './doors.ts'
import type { PagesParts } from './parts.ts'
import type { Env, SignedInVisit } from './visit.ts'

/** Rows on the page. */
const MOST = 200

/** Who acts for the visitor, and the way to end it. */
export function delegationRoutes(app: Hono<Env>, { store, sessions, clock }: PagesParts, { page, signedIn, form, answers }: Doors): void {
  async function show(visit: SignedInVisit, error?: ChaperoneError): Promise<Response> {
    const { session } = visit.web
    const rows = await inNames(store.db, await listGiven(store.db, { now: clock.now(), mine: ownOf(session), limit: MOST }), sessions.list())
    const body = delegationsBody({ web: visit.web, rows })
    return page(
      visit,
      { title: 'Who acts for you', here: 'account', body, ...(error ? { error } : {}) },
      error ? { status: REASONS[error.code].http } : {},
    )
  }

  app.get(
    '/account/delegations',
    signedIn((visit) => show(visit)),
  )
  app.post(
    '/account/delegations/revoke',
    form(async (visit, fields) => {
      try {
        const { session } = visit.web
        const row = await delegationNamed(store.db, fields.get('id') ?? '')
        const own = await sidesOf(store.db, row, ownOf(session))
        if (!own.includes('from')) throw new ChaperoneError('not_found', 'There is no such delegation for you.')
        await revoke({ store, sessions }, row.id, session)
        return answers.goTo('/account/delegations')
      } catch (error) {
        return show(visit, expected(error))
      }
    }),
  )
}
