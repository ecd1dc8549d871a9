import type { Hono } from 'hono'
import { hasFreshFactor } from '../access/administration.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import { called } from '../identity/delegation/consent.ts'
import type { Chosen, Waiting } from '../signin/oauth/consents.ts'
import { consentBody, goingOnBody, overBody } from './consent-view.ts'
import { type Doors, expected, signedInFor } from './doors.ts'
import type { Html } from './html.ts'
import type { PagesParts } from './parts.ts'
import { codeIn, type Env, passkeyIn, placeOf, type SignedInVisit, textOf } from './visit.ts'

/** The page on which a person lets an OAuth client act for him, or does not. What may be agreed to is for `oauth` to say, and for nothing here. */
export function consentRoutes(app: Hono<Env>, { oauth, passkeys, signin, clock }: PagesParts, doors: Doors): void {
  const waitingFor = ({ context, request }: SignedInVisit): Promise<Waiting | undefined> => {
    const uid = context.req.param('uid') ?? ''
    return /^[A-Za-z0-9_-]{16,64}$/.test(uid) ? oauth.waiting(uid, request.headers.get('cookie')) : Promise.resolve(undefined)
  }
  const over = (visit: SignedInVisit): Response => doors.page(visit, { title: 'Over', body: overBody }, { status: 404 })

  async function show(visit: SignedInVisit, waiting: Waiting, chosen?: Chosen, error?: ChaperoneError): Promise<Response> {
    const { web } = visit
    const asked = await oauth.ask(web, waiting, chosen)
    const body: Html = consentBody({
      uid: waiting.uid,
      asked,
      seen: asked.seen,
      web,
      passkeys: visit.place !== undefined && (await passkeys.list(web.session)).length > 0,
      factorFresh: hasFreshFactor(web.session, clock.now()),
    })
    const content = { title: `${called(waiting.client.name)} wants to act for you`, body, ...(error ? { error } : {}) }
    return doors.page(visit, content, error ? { status: REASONS[error.code].http } : {})
  }

  /**
   * By a page of ours and not by a redirect: a browser holds `form-action 'self'` against every address that a form leads to, and the
   * client's is another one.
   */
  const goOn = (visit: SignedInVisit, address: string): Response => {
    const { pathname, search } = new URL(address)
    const path = `${pathname}${search}`
    return doors.page(visit, { title: 'One moment', body: goingOnBody(path), goOn: path })
  }

  app.get(
    '/oauth/consent/:uid',
    doors.signedIn(async (visit) => {
      const waiting = await waitingFor(visit)
      return waiting ? show(visit, waiting) : over(visit)
    }),
  )
  app.post(
    '/oauth/consent/:uid/passkey',
    doors.script(async (given, asked) => {
      const visit = signedInFor(given) as SignedInVisit
      const waiting = await waitingFor(visit)
      if (!waiting) throw new ChaperoneError('not_found', 'This sign-in is over.')
      const chosen = chosenIn((name) => textOf(asked[name]), waiting)
      return passkeys.startFactor(visit.web.session, { oauth: waiting.uid, ...chosen }, placeOf(visit))
    }),
  )
  app.post(
    '/oauth/consent/:uid',
    doors.form(async (visit, fields) => {
      const waiting = await waitingFor(visit)
      if (!waiting) return over(visit)
      const { web } = visit
      const verdict = fields.get('verdict') ?? (passkeyIn(fields) ? 'agree' : '')
      if (verdict === 'refuse') return goOn(visit, await oauth.refuse(web, waiting))
      let chosen: Chosen | undefined
      try {
        chosen = chosenIn((name) => fields.get(name), waiting)
        const asked = await oauth.ask(web, waiting, chosen)
        if (verdict !== 'agree') return show(visit, waiting, chosen)
        if (fields.get('seen') !== asked.seen)
          throw new ChaperoneError('conflict', 'What it gets has changed by what you chose.', { fix: 'Read it again, then agree.' })
        const answer = passkeyIn(fields)
        if (answer) await passkeys.factor(web.session, answer, { oauth: waiting.uid, ...chosen }, placeOf(visit))
        else if (codeIn(fields) !== '') await signin.factor(web.session, codeIn(fields))
        return goOn(visit, await oauth.agree(web, waiting, chosen, asked.seen))
      } catch (thrown) {
        const error = expected(thrown)
        // What cannot be chosen is not shown again as chosen.
        return show(visit, waiting, error.code === 'not_found' ? undefined : chosen, error)
      }
    }),
  )
}

function chosenIn(field: (name: string) => string | undefined, { readOnly }: Waiting): Chosen {
  const [agent, profile] = [field('agent') ?? '', field('profile') ?? '']
  if (agent === '') throw new ChaperoneError('usage', 'Choose as whom it acts.')
  return { agent, ...(profile === '' ? {} : { profile }), readOnly: readOnly || field('read') === 'only' }
}
