import type { TestContext } from 'node:test'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { type ForgingIssuer, forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { directorySpec } from '../../catalog/directory.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { createIdentity } from '../../identity/directory.ts'
import { newId } from '../../ids.ts'
import { openOutgoing } from '../../vault/outbound.ts'
import { browserPlace } from '../place.fixture.ts'
import { openDirectories } from './directories.ts'
import { openProviders } from './openid.ts'
import { keepSignIns } from './sign-ins.ts'

export const REDIRECT = 'https://chaperone.example.org/signin/with/company/callback'
export const authority = await fakeAuthority()

export async function place(t: TestContext, more: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  const forging = await forgingIssuer(authority)
  t.after(() => forging.close())
  const documents = here.directories
  const document = (name: string, spec: Record<string, unknown>) =>
    documents.set(
      name,
      directorySpec.parse({
        issuer: forging.issuer,
        client_id: 'chaperone',
        client_secret: { secret: 'company' },
        ca: authority.certificate,
        allow_private: true,
        create: true,
        ...spec,
      }),
    )
  document('company', more)
  const epochs: number[] = []
  const told: string[] = []
  const directories = openDirectories({
    store: here.store,
    audit: {
      async append(draft) {
        here.records.push(draft as never)
        return { id: 'rec', seq: 1 }
      },
    },
    sessions: here.sessions,
    raised: async (epoch) => void epochs.push(epoch),
    clock: here.clock,
    told: async (_, { directory, what }) => void told.push(`${directory}: ${what}`),
    async administratorLeft(trx) {
      const left = (db: typeof trx | typeof here.store.db) =>
        db.selectFrom('identities').select('id').where('state', '=', 'active').where('roles', 'like', '%"administrator"%').executeTakeFirst()
      if ((await left(here.store.db)) && !(await left(trx))) throw new ChaperoneError('conflict', 'Nobody would be left.')
    },
    providers: openProviders({
      outgoing: openOutgoing({ clock: here.clock, env: {} }),
      reveal: async () => 'a secret of the client',
      clock: here.clock,
    }),
    signIns: keepSignIns(here),
    documents: () => [...documents].map(([name, spec]) => ({ name, spec })),
  })
  const begin = (directory = 'company', ask: { fresh?: boolean; link?: { identityId: string; sessionId: string } } = {}) =>
    directories.begin(directory, { redirect: REDIRECT, next: '/requests', ...ask })
  const back = (answer: URLSearchParams) => new URL(`${REDIRECT}?${answer}`)
  /** There and back, as an honest browser goes. */
  const signIn = async (claims: ForgingIssuer['claims'] = {}, directory = 'company') => {
    forging.claims = claims
    const { url, cookie } = await begin(directory)
    return directories.finish(directory, back(forging.approve(url)), cookie.secret)
  }
  const user = (name: string, spec: Record<string, unknown> = {}) =>
    here.store.write(async (trx) => {
      const identity = await createIdentity(trx, {
        kind: 'user',
        name,
        source: 'document',
        now: here.clock.now(),
        roles: (spec.roles as string[]) ?? [],
      })
      await trx
        .insertInto('documents')
        .values({
          id: newId('res'),
          kind: 'user',
          name,
          labels: '{}',
          spec: canonicalJson({ roles: [], traits: {}, ...spec }),
          digest: '',
          owner: null,
          applied_by: '',
          updated_at: 0,
        })
        .execute()
      return identity
    })
  return { ...here, forging, documents, document, directories, begin, back, signIn, user, epochs, told }
}

export const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )
