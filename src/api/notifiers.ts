import { z } from 'zod'
import { MAIL_ADDRESS } from '../catalog/notifier.ts'
import type { NotifierList, NotifierTested } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

/** Who outside is told: what waits, what was given up and why, and a test message. */
export function notifierRoutes({ notifications, state }: ApiParts): readonly Route[] {
  return [
    signedIn({
      method: 'GET',
      path: '/v1/notifiers',
      who: { by: 'verbs', anyOf: ['apply', 'audit.read'] },
      summary: () => 'list notifiers',
      handle: async (): Promise<NotifierList> => ({ notifiers: await notifications.list() }),
    }),
    signedIn({
      method: 'POST',
      path: '/v1/notifiers/:name/test',
      who: { by: 'verbs', anyOf: ['apply'] },
      body: z.strictObject({}),
      summary: ({ params }) => `send a test by the notifier ${(params.name ?? '').slice(0, 63)}`,
      async handle({ params, session }): Promise<NotifierTested> {
        // A mail goes to whoever tests it, and to nobody else's mailbox.
        const { email } = JSON.parse(state.current().identity(session.principal.identityId)?.traits ?? '{}') as { email?: unknown }
        const mailTo = typeof email === 'string' && MAIL_ADDRESS.test(email) ? { mailTo: email } : {}
        const attempt = await notifications.test(params.name ?? '', mailTo)
        return attempt.ok ? { ok: true } : { ok: false, error: attempt.error }
      },
    }),
  ]
}
