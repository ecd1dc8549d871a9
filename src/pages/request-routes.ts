import type { Hono } from 'hono'
import { beforeOf } from '../api/requests-history.ts'
import { rowsOf, type SeenRequest, shownOf } from '../api/requests-rows.ts'
import { makeStreams } from '../api/stream.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { companyOnly, notVouched } from '../signin/standing.ts'
import { decisionIn } from './decide.ts'
import { type Doors, expected, signedInFor } from './doors.ts'
import type { CompanyStep } from './fields.ts'
import type { Fields } from './forms.ts'
import { type Html, html } from './html.ts'
import type { PagesParts } from './parts.ts'
import { requestLine } from './request-line.ts'
import { requestBody, type Typed } from './request-view.ts'
import { codeIn, type Env, passkeyIn, placeOf, type SignedInVisit, textOf } from './visit.ts'

const MOST_LISTED = 100

interface Said {
  readonly error?: ChaperoneError
  readonly typed?: Typed
}

/** What waits for a person, one page per request, and his decision. Who may do what is for `Requests` to say, and for nothing here. */
export function requestRoutes(app: Hono<Env>, parts: PagesParts, doors: Doors): { close(): void } {
  const { requests, signin, passkeys, standingOf, directories } = parts
  const { answers, form } = doors
  const streams = makeStreams(parts.clock, 'Too many pages are watching already.')
  const idOf = ({ context }: SignedInVisit) => context.req.param('id') ?? ''

  async function inbox(visit: SignedInVisit): Promise<Response> {
    const { session } = visit.web
    const [waiting, asked] = await Promise.all([
      requests.list(session, { state: 'pending', mine: 'to_decide', limit: MOST_LISTED }),
      requests.list(session, { mine: 'asked', limit: MOST_LISTED }),
    ])
    const list = async (some: readonly SeenRequest[], none: string): Promise<Html> =>
      some.length === 0 ? html`<p>${none}</p>` : html`<ul class="plain">${(await rowsOf(parts, some)).map(requestLine)}</ul>`
    const body = html`<div data-events="/requests/events" data-page="/requests"><h1>Requests</h1>
<h2>Waiting for you</h2>${await list(waiting, 'Nothing waits for you.')}
<h2>Asked by you, or for you</h2>${await list(asked, 'Nothing yet.')}</div>`
    return doors.page(visit, { title: 'Requests', here: 'requests', body })
  }

  async function one(visit: SignedInVisit, { error, typed }: Said = {}): Promise<Response> {
    const { web } = visit
    const seen = await requests.show(web.session, idOf(visit))
    const [row] = await rowsOf(parts, [seen])
    const before = await beforeOf(parts, web.session, seen)
    const state = parts.state.current()
    const ownerId = state.identity(seen.identityId)?.owner_id
    const owner = ownerId ? state.identity(ownerId)?.name : undefined
    const company = await companyStep(web.session)
    const body = requestBody({
      request: { ...row!, shown: await shownOf(seen), ...(before ? { before } : {}) },
      web,
      passkeys: company === undefined && visit.place !== undefined && (await passkeys.list(web.session)).length > 0,
      company,
      ...(owner === undefined ? {} : { owner }),
      ...(typed ? { typed } : {}),
    })
    const content = { title: row!.summary, here: 'requests', body, ...(error ? { error } : {}) } as const
    return doors.page(visit, content, error ? { status: REASONS[error.code].http } : {})
  }

  async function companyStep(session: LiveSession): Promise<CompanyStep | undefined> {
    const { only, needs } = await standingOf(session)
    if (only === undefined) return undefined
    const title = directories.list().find(({ name }) => name === only)?.title ?? only
    return { directory: only, title, ready: needs === 'directory' }
  }

  /** The second factor, for exactly this: given on the page itself, with each decision, so that a cookie alone decides nothing. */
  async function giveFactor(visit: SignedInVisit, fields: Fields, what: unknown): Promise<void> {
    const { session } = visit.web
    const { only, needs } = await standingOf(session)
    // Where the company's alone counts it was given there, with the person before it, within the last five minutes.
    if (only !== undefined && needs === 'directory') return
    if (only !== undefined && needs === 'unvouched') throw notVouched(only)
    if (only !== undefined) throw companyOnly(only)
    const answer = passkeyIn(fields)
    if (answer) return passkeys.factor(session, answer, what, placeOf(visit))
    const code = codeIn(fields)
    if (code === '') throw new ChaperoneError('factor_required', 'Give a code of your authenticator app, or use a passkey.')
    await signin.factor(session, code)
  }

  /** Does it, and shows the request as it is then; what went wrong is said on its page. What may not be seen is not there (rule 8). */
  const acting = (work: (request: SeenRequest, visit: SignedInVisit, fields: Fields) => Promise<unknown>) =>
    form(async (visit, fields) => {
      const request = await requests.show(visit.web.session, idOf(visit))
      try {
        await work(request, visit, fields)
        return answers.goTo(`/requests/${request.id}`)
      } catch (thrown) {
        const text = fields.get('reason') ?? fields.get('note')
        const form = visit.path.slice(visit.path.lastIndexOf('/') + 1)
        return one(visit, { error: expected(thrown), ...(text ? { typed: { form, text } } : {}) })
      }
    })

  app.get('/requests', doors.signedIn(inbox))
  app.get(
    '/requests/events',
    doors.signedIn((visit) => watching(visit)),
  )
  app.get(
    '/requests/:id',
    doors.signedIn((visit) => one(visit)),
  )
  app.get(
    '/requests/:id/events',
    doors.signedIn((visit) => watching(visit, idOf(visit))),
  )
  app.post(
    '/requests/:id/passkey',
    doors.script(async (given, asked) => {
      const visit = signedInFor(given)
      const decision = decisionIn((name) => textOf(asked[name]))
      const { id } = await requests.show(visit.web.session, idOf(visit))
      return passkeys.startFactor(visit.web.session, { request: id, ...decision }, placeOf(visit))
    }),
  )
  app.post(
    '/requests/:id/decide',
    acting(async (request, visit, fields) => {
      const decision = decisionIn((name) => fields.get(name))
      // Looked at before a code is used up for nothing; `decide` looks again.
      if (request.standing.no !== undefined) throw new ChaperoneError('approval_refused', request.standing.no)
      if (request.seen !== decision.seen)
        throw new ChaperoneError('conflict', 'This has changed since the page was loaded.', { fix: 'Read it again; nothing was decided.' })
      await giveFactor(visit, fields, { request: request.id, ...decision })
      await requests.decide(visit.web.session, request.id, decision)
    }),
  )
  app.post(
    '/requests/:id/withdraw',
    acting(({ id }, { web }) => requests.withdraw(web.session, id)),
  )
  app.post(
    '/requests/:id/revoke',
    acting(async ({ id }, visit, fields) => {
      const reason = fields.get('reason') ?? ''
      await giveFactor(visit, fields, { request: id, revoke: reason })
      await requests.revoke(visit.web.session, id, reason)
    }),
  )
  app.post(
    '/requests/:id/review',
    acting(async ({ id }, visit, fields) => {
      const note = fields.get('note') ?? ''
      await giveFactor(visit, fields, { request: id, review: note })
      await requests.review(visit.web.session, id, note)
    }),
  )

  /** Says that something changed, not what: the page is loaded again and shows what its reader may see then. */
  async function watching({ web, context }: SignedInVisit, id?: string): Promise<Response> {
    const { session } = web
    const at = Number(context.req.query('at'))
    const now = id === undefined ? undefined : await requests.show(session, id)
    // It ends with the session, and no later than one that nobody uses: watching is not using.
    const connection = session.connect('https', { until: web.idleAt, credentialId: session.principal.credentialId })
    const over = () => connection.closed()
    try {
      const { response, done } = streams.open(session, connection.signal, (send) => {
        const changed = (updatedAt: number) => send({ id: String(updatedAt), data: { changed: true } })
        // What happened between the page and this stream.
        if (now && now.updatedAt > at) changed(now.updatedAt)
        return requests.watch(({ request }) => {
          if (id !== undefined && request.id !== id) return
          // What he may not see does not wake him either.
          requests.show(session, request.id).then(
            () => changed(request.updatedAt),
            () => {},
          )
        })
      })
      done.then(over, over)
      return answers.stream(response.body!)
    } catch (error) {
      over()
      throw error
    }
  }

  return { close: () => streams.close() }
}
