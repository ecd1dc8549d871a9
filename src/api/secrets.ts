import { z } from 'zod'
import { actorOf } from './caller.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type Route, signedIn } from './route.ts'

const secrets = { by: 'verbs', anyOf: ['secrets'] } as const

/** Upstream secrets: set, listed by name, deleted. There is no route that shows one, and their bodies are in no record. */
export function secretRoutes({ vault, store, audit }: ApiParts): readonly Route[] {
  return [
    signedIn({ method: 'GET', path: '/v1/secrets', who: secrets, handle: async () => ({ secrets: await vault.list() }) }),
    signedIn<{ value: string }>({
      method: 'PUT',
      path: '/v1/secrets/:name',
      who: secrets,
      limit: 512 * 1024,
      secretBody: true,
      body: z.strictObject({ value: z.string().min(1) }),
      summary: (asked) => `set ${shown(asked)}`,
      async handle(asked) {
        await audit.append({ ...actorOf(asked.session), type: 'secret.set', data: { name: shown(asked) } })
        await store.write((trx) => vault.set(trx, asked.params.name ?? '', asked.body.value))
        return {}
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/secrets/:name',
      who: secrets,
      summary: (asked) => `delete ${shown(asked)}`,
      async handle(asked) {
        await audit.append({ ...actorOf(asked.session), type: 'secret.deleted', data: { name: shown(asked) } })
        await store.write((trx) => vault.delete(trx, asked.params.name ?? ''))
        return {}
      },
    }),
  ]
}

/** What does not look like a name may be the secret itself, typed in its place: it is not repeated. */
const shown = ({ params: { name = '' } }: Asked<unknown>): string => (/^[a-z0-9][a-z0-9._/-]{0,63}$/.test(name) ? `secret ${name}` : 'a secret')
