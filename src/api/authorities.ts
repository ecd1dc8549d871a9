import { z } from 'zod'
import type { AuthorityPurpose } from '../ca/types.ts'
import { ChaperoneError } from '../errors.ts'
import { actorOf } from './caller.ts'
import type { AuthorityRow } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

/** The authorities that certificates rest on. What they are is public; to rotate one is not. */
export function authorityRoutes(parts: ApiParts): readonly Route[] {
  const { store, ca, audit } = parts
  return [
    signedIn({
      method: 'GET',
      path: '/v1/ca',
      who: { by: 'session' },
      async handle() {
        const rows = await store.db.selectFrom('authorities').selectAll().orderBy('created_at', 'desc').limit(1000).execute()
        return { authorities: rows.map(rowOf) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/ca/:purpose',
      // Of a database that the caller may not see, even the authority is not to be told. The other two every credential brings along,
      // and a person needs that of the server for clients that read certificates from a file.
      who: {
        by: 'verbs',
        anyOf: ['ca', 'apply'],
        own: { when: 'otherwise', test: ({ params }) => params.purpose === 'server' || params.purpose === 'identity' },
      },
      summary: ({ params }) => `read authority ${params.purpose}`,
      async handle({ params }) {
        const purpose = await purposeOf(params.purpose ?? '')
        return { purpose, pem: await ca.bundle(purpose) }
      },
    }),
    signedIn<{ purpose: string }>({
      method: 'POST',
      path: '/v1/ca/rotate',
      who: { by: 'verbs', anyOf: ['ca'] },
      body: z.strictObject({ purpose: z.string().min(1).max(300) }),
      summary: ({ body }) => `rotate authority ${body.purpose}`,
      async handle({ body, session }) {
        const purpose = await purposeOf(body.purpose)
        await audit.append({ ...actorOf(session), type: 'authority.rotated', data: { purpose } })
        return ca.rotate(purpose)
      },
    }),
  ]

  /** `database:<name>` is taken for the id behind the name: an authority belongs to the resource, not to what it is called. */
  async function purposeOf(text: string): Promise<AuthorityPurpose> {
    if (text === 'identity' || text === 'server') return text
    const database = /^database:(.+)$/.exec(text)?.[1]
    if (database === undefined)
      throw new ChaperoneError('usage', `There is no authority for ${text}.`, { fix: 'Known are: identity, server, database:NAME.' })
    const row = await store.db
      .selectFrom('documents')
      .select('id')
      .where('kind', '=', 'postgres')
      .where((or) => or.or([or('name', '=', database), or('id', '=', database)]))
      .executeTakeFirst()
    if (!row) throw new ChaperoneError('not_found', `There is no postgres resource ${database}.`)
    return `database:${row.id}`
  }
}

const rowOf = (row: {
  purpose: string
  spki_sha256: string
  state: string
  created_at: number
  not_after: number
  retire_at: number | null
}): AuthorityRow => ({
  purpose: row.purpose,
  fingerprint: row.spki_sha256,
  state: row.state,
  createdAt: row.created_at,
  notAfter: row.not_after,
  ...(row.retire_at === null ? {} : { believedUntil: row.retire_at }),
})
