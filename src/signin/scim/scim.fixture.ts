import type { TestContext } from 'node:test'
import { directorySpec } from '../../catalog/directory.ts'
import { ChaperoneError } from '../../errors.ts'
import { findIdentity } from '../../identity/directory.ts'
import { browserPlace } from '../place.fixture.ts'
import { createScim } from './app.ts'

export const TOKEN = 'a-token-that-nobody-would-guess-0123456789'

/** A store, a directory `company` with SCIM, and its sender. */
export async function place(t: TestContext, more: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  const secrets = new Map([
    ['scim', TOKEN],
    ['short', 'short'],
  ])
  const documents = here.directories
  const document = (name: string, spec: Record<string, unknown> = {}) =>
    documents.set(
      name,
      directorySpec.parse({ scim: { token: { secret: 'scim' } }, groups: 'scim', name: { claim: 'x', domain: 'example.com' }, ...spec }),
    )
  document('company', more)
  const wrong: string[] = []
  const told: string[] = []
  const scim = createScim({
    store: here.store,
    sessions: here.sessions,
    audit: {
      async append(draft) {
        here.records.push(draft as never)
        return { id: 'rec', seq: 1 }
      },
    },
    clock: here.clock,
    raised: async () => {},
    told: async (_, { directory, what }) => void told.push(`${directory}: ${what}`),
    async administratorLeft(trx) {
      const left = (db: typeof trx | typeof here.store.db) =>
        db.selectFrom('identities').select('id').where('state', '=', 'active').where('roles', 'like', '%"administrator"%').executeTakeFirst()
      if ((await left(here.store.db)) && !(await left(trx))) throw new ChaperoneError('conflict', 'Nobody would be left.')
    },
    documents: () => [...documents].map(([name, spec]) => ({ name, spec })),
    reveal: async (name) => {
      const value = secrets.get(name)
      if (value === undefined) throw new ChaperoneError('not_found', 'There is no such secret.')
      return value
    },
    places: { web: 'chaperone.example.org:8443' },
    throttle: (address) => void wrong.push(address),
    log: () => {},
  })
  const ask = async (method: string, path: string, body?: unknown, { token = TOKEN, directory = 'company' } = {}) => {
    const answer = await scim.fetch(
      new Request(`https://chaperone.example.org:8443/scim/v2/${directory}${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'Content-Type': 'application/scim+json' }) },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
      '192.0.2.1',
    )
    const text = await answer.text()
    here.clock.advance(1)
    // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes
    return { status: answer.status, body: (text === '' ? undefined : JSON.parse(text)) as any, headers: answer.headers }
  }
  const user = (name: string, more: Record<string, unknown> = {}) =>
    ask('POST', '/Users', {
      schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'],
      userName: `${name}@example.com`,
      externalId: `ext-${name}`,
      active: true,
      ...more,
    })
  const patch = (path: string, ...Operations: unknown[]) =>
    ask('PATCH', path, { schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'], Operations })
  const person = (name: string) => findIdentity(here.store.db, { name })
  return { ...here, scim, ask, user, patch, person, document, secrets, wrong, told }
}
