import { z } from 'zod'
import { secretUsers } from '../documents/secret-users.ts'
import { ChaperoneError } from '../errors.ts'
import { aboutSecret } from '../vault/credential-notes.ts'
import { actorOf } from './caller.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type Route, signedIn } from './route.ts'

const secrets = { by: 'verbs', anyOf: ['secrets'] } as const

/** Upstream secrets: set, listed by name, deleted. There is no route that shows one, and their bodies are in no record. */
export function secretRoutes({ vault, store, audit, notes, state }: ApiParts): readonly Route[] {
  return [
    signedIn({
      method: 'GET',
      path: '/v1/secrets',
      summary: () => 'list secrets',
      who: secrets,
      handle: async () => ({ secrets: await vault.list() }),
    }),
    signedIn<{ value: string }>({
      method: 'PUT',
      path: '/v1/secrets/:name',
      who: secrets,
      limit: 512 * 1024,
      secretBody: true,
      body: z.strictObject({ value: z.string().min(1) }),
      summary: (asked) => `set ${shown(asked)}`,
      async handle(asked) {
        const name = asked.params.name ?? ''
        // One name space: whoever reads `{ secret: NAME }` must not have to ask which of two is meant.
        if (state.current().find('secret', name))
          throw new ChaperoneError('conflict', `A document says that the secret ${name} is kept elsewhere.`, {
            fix: `Choose another name, or delete the document first: chaperone delete secret ${name}`,
          })
        await audit.append({ ...actorOf(asked.session), type: 'secret.set', data: { name: shown(asked) } })
        await store.write(async (trx) => {
          await vault.set(trx, name, asked.body.value)
          await notes.set(trx, aboutSecret(name), asked.session.principal.identityId)
        })
        return {}
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/secrets/:name',
      who: secrets,
      summary: (asked) => `delete ${shown(asked)}`,
      async handle(asked) {
        const name = asked.params.name ?? ''
        const users = secretUsers(state.current()).get(name) ?? []
        // What names it stops to work with the next call, and it cannot be brought back.
        if (users.length > 0 && asked.query.get('force') !== 'true')
          throw new ChaperoneError('conflict', `The secret ${name} is named by ${namesText(users)}, which would fail without it.`, {
            fix: `Take it out of there first, or: chaperone secret delete ${name} --force`,
          })
        await audit.append({ ...actorOf(asked.session), type: 'secret.deleted', data: { name: shown(asked) } })
        await store.write(async (trx) => {
          await vault.delete(trx, name)
          await notes.forget(trx, aboutSecret(name))
        })
        return { usedBy: users }
      },
    }),
  ]
}

const MOST_NAMES = 10

const namesText = (names: readonly string[]): string =>
  names.length <= MOST_NAMES ? names.join(', ') : `${names.slice(0, MOST_NAMES).join(', ')} and ${names.length - MOST_NAMES} more`

/** What does not look like a name may be the secret itself, typed in its place: it is not repeated. */
const shown = ({ params: { name = '' } }: Asked<unknown>): string => (/^[a-z0-9][a-z0-9._/-]{0,63}$/.test(name) ? `secret ${name}` : 'a secret')
