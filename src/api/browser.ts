import { z } from 'zod'
import type { BrowserLink, BrowserList } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

const session = { by: 'session' } as const

/** A person's own browsers and passkeys. What they open is for the pages (src/pages/); here they are made known, listed and taken away. */
export function browserRoutes({ browsers, passkeys, places }: ApiParts): readonly Route[] {
  return [
    signedIn<Record<string, never>>({
      method: 'POST',
      path: '/v1/browsers/link',
      who: session,
      factor: () => true,
      body: z.strictObject({}),
      summary: () => 'make a browser known',
      async handle({ session }): Promise<BrowserLink> {
        const { secret, expiresAt } = await browsers.link(session)
        // Behind the #: a browser sends that to nobody, so it stands in no log.
        return { url: `https://${places.web}/browser#${secret}`, expiresAt }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/browsers',
      who: session,
      async handle({ session }): Promise<BrowserList> {
        return { browsers: await browsers.browsers(session), passkeys: await passkeys.list(session) }
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/browsers/:id',
      who: session,
      async handle({ session, params }) {
        await browsers.forget(session, params.id ?? '')
        return {}
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/passkeys/:id',
      who: session,
      async handle({ session, params }) {
        await passkeys.remove(session, params.id ?? '')
        return {}
      },
    }),
  ]
}
