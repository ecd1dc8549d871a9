import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { ChaperoneError } from '../errors.ts'
import { addressOf } from '../network/forwarded.ts'
import { accountRoutes } from './account-routes.ts'
import { connectRoutes } from './connect-routes.ts'
import { consentRoutes } from './consent-routes.ts'
import { delegationRoutes } from './delegation-routes.ts'
import { deviceRoutes } from './device-routes.ts'
import { directoryRoutes } from './directory-routes.ts'
import { makeDoors } from './doors.ts'
import { entranceRoutes } from './entrance-routes.ts'
import { ASSETS } from './layout.ts'
import type { PagesParts } from './parts.ts'
import { requestRoutes } from './request-routes.ts'
import type { Env } from './visit.ts'

/** The pages of the web listener, for people. All of them are made here, on the server. */
export interface Pages {
  /** Whether this path is one of a page. */
  has(path: string): boolean
  /** For tests, and whoever has a Request. `remote` is the peer's address. */
  fetch(request: Request, remote: string): Promise<Response>
  /** As a handler of a node listener. Answers errors too; never rejects. */
  handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void>
  /** Ends the streams (shutdown). */
  close(): void
}

const PATHS =
  /^\/(?:$|favicon\.ico$|assets\/|signin(?:$|\/)|signout$|enrol(?:$|\/)|browser$|requests(?:$|\/)|connect\/|account(?:$|\/)|device(?:$|\/)|oauth\/consent\/)/

export function createPages(parts: PagesParts): Pages {
  const app = new Hono<Env>()
  const doors = makeDoors(parts)
  const { answers } = doors

  app.get(
    '/',
    doors.open(async () => answers.goTo('/requests')),
  )
  app.get('/assets/:file', (context) => {
    const asset = ASSETS.get(context.req.path)
    return asset ? answers.asset(asset.text, asset.type) : doors.nothing({})
  })
  // Every browser asks for one; else it would be turned away, and recorded, as a stranger.
  app.get('/favicon.ico', () => answers.none())
  entranceRoutes(app, parts, doors)
  directoryRoutes(app, parts, doors)
  deviceRoutes(app, parts, doors)
  consentRoutes(app, parts, doors)
  const requests = requestRoutes(app, parts, doors)
  accountRoutes(app, parts, doors)
  connectRoutes(app, parts, doors)
  delegationRoutes(app, parts, doors)
  app.notFound((context) => doors.signedIn(async (visit) => doors.nothing(visit))(context))
  app.onError((error, context) => doors.failed(undefined, error, context.req.path))

  const listener = getRequestListener(
    (request, env) => pages.fetch(request, addressOf(env.incoming as IncomingMessage)),
    // The global Request and Response stay what they are: other libraries in this process use them too.
    { overrideGlobalObjects: false, errorHandler: (error) => doors.failed(undefined, error, 'pages') },
  )
  const pages: Pages = {
    has: (path) => PATHS.test(path),
    async fetch(request, remote) {
      // Hono would run the GET handler for a HEAD.
      if (request.method !== 'GET' && request.method !== 'POST')
        return doors.failed(undefined, new ChaperoneError('unsupported', 'Only GET and POST are answered here.'), request.method)
      return app.fetch(request, { remote })
    },
    async handle(incoming, outgoing) {
      await listener(incoming, outgoing)
    },
    close: () => requests.close(),
  }
  return pages
}
