import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { type DirectorySpec, directorySpec, scimTokens } from '../../catalog/directory.ts'
import { parseStrict } from '../../encoding/strict-json.ts'
import { type ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import { addressOf } from '../../network/forwarded.ts'
import type { PeopleParts } from '../directory/people.ts'
import { errorBody, invalid, ScimError, unknown } from './errors.ts'
import { parseFilter } from './filter.ts'
import { openGroups } from './groups.ts'
import type { Listed, Page } from './listing.ts'
import { type Attributes, isObject, operationsIn } from './patch.ts'
import { LIST, MOST_RESULTS, resourceTypes, schemas, serviceProviderConfig } from './schemas.ts'
import { makeTurns } from './turns.ts'
import { openUsers, type Speaking } from './users.ts'

/** SCIM 2.0 (RFC 7643, 7644): a company's directory says here who comes, changes and leaves. One tree of addresses a directory, each with its own token. */
export interface Scim {
  has(path: string): boolean
  /** For tests, and whoever has a Request. `remote` is the peer's address. */
  fetch(request: Request, remote: string): Promise<Response>
  handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void>
}

export interface ScimParts extends PeopleParts {
  /** The `directory` documents that hold now. */
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
  readonly reveal: (secret: string) => Promise<string>
  readonly places: { readonly web: string }
  /** Throws when this address has shown too many wrong tokens. */
  readonly throttle: (address: string) => void
  readonly log: (error: ChaperoneError, where: string) => void
}

const MOST_BYTES = 1024 * 1024
const TYPE = 'application/scim+json'
const PATH = /^\/scim\/v2\//

interface Env {
  readonly Bindings: { readonly remote: string }
  readonly Variables: { speaking: Speaking }
}

const digest = (text: string) => createHash('sha256').update(text).digest()
/** A token that a person could have thought up would be guessed. */
const SHORTEST_TOKEN = 24

export function createScim(parts: ScimParts): Scim {
  const { audit, places, reveal, throttle } = parts
  const turn = makeTurns()
  const users = openUsers(parts, turn)
  const groups = openGroups(parts, turn)
  const app = new Hono<Env>().basePath('/scim/v2/:directory')

  app.use('*', async (context, next) => {
    context.set('speaking', await speakingIn(context.req.raw, context.req.param('directory') ?? '', context.env.remote))
    await next()
  })
  app.get('/ServiceProviderConfig', () => json(serviceProviderConfig))
  app.get('/ResourceTypes', () => json(listOf({ total: resourceTypes.length, resources: resourceTypes as never }, 1)))
  app.get('/ResourceTypes/:id', (context) => json(resourceTypes.find((one) => one.id === context.req.param('id')) ?? nothing()))
  app.get('/Schemas', () => json(listOf({ total: schemas.length, resources: schemas as never }, 1)))
  app.get('/Schemas/:id', (context) => json(schemas.find((one) => one.id === context.req.param('id')) ?? nothing()))

  app.get('/Users', async ({ req, var: { speaking } }) => {
    const page = pageIn(req.raw)
    return json(chosen(req.raw, listOf(await users.list(speaking, filterIn(req.raw), page), page.startIndex)))
  })
  app.post('/Users', async ({ req, var: { speaking } }) => created(await users.create(speaking, await bodyOf(req.raw))))
  app.get('/Users/:id', async ({ req, var: { speaking } }) => json(chosen(req.raw, await users.get(speaking, req.param('id')))))
  app.put('/Users/:id', async ({ req, var: { speaking } }) => json(await users.replace(speaking, req.param('id'), await bodyOf(req.raw))))
  app.patch('/Users/:id', async ({ req, var: { speaking } }) =>
    json(await users.patch(speaking, req.param('id'), operationsIn(await bodyOf(req.raw)))),
  )
  app.delete('/Users/:id', async ({ req, var: { speaking } }) => {
    await users.remove(speaking, req.param('id'))
    return new Response(null, { status: 204, headers: HEADERS })
  })

  const withMembers = (request: Request) => !/\bmembers\b/i.test(new URL(request.url).searchParams.get('excludedAttributes') ?? '')
  app.get('/Groups', async ({ req, var: { speaking } }) => {
    const page = pageIn(req.raw)
    return json(chosen(req.raw, listOf(await groups.list(speaking, filterIn(req.raw), page, withMembers(req.raw)), page.startIndex)))
  })
  app.post('/Groups', async ({ req, var: { speaking } }) => created(await groups.create(speaking, await bodyOf(req.raw))))
  app.get('/Groups/:id', async ({ req, var: { speaking } }) =>
    json(chosen(req.raw, await groups.get(speaking, req.param('id'), withMembers(req.raw)))),
  )
  app.put('/Groups/:id', async ({ req, var: { speaking } }) => json(await groups.replace(speaking, req.param('id'), await bodyOf(req.raw))))
  app.patch('/Groups/:id', async ({ req, var: { speaking } }) =>
    json(await groups.patch(speaking, req.param('id'), operationsIn(await bodyOf(req.raw)))),
  )
  app.delete('/Groups/:id', async ({ req, var: { speaking } }) => {
    await groups.remove(speaking, req.param('id'))
    return new Response(null, { status: 204, headers: HEADERS })
  })
  app.notFound(() => refuse(unknown()))
  app.onError((error) => answerTo(error))

  /** Whose token it is. The same answer for a directory that is not there, one without SCIM, and a wrong token. */
  async function speakingIn(request: Request, name: string, remote: string): Promise<Speaking> {
    const found = parts.documents().find((one) => one.name === name)
    const spec: DirectorySpec | undefined = found && directorySpec.parse(found.spec)
    const shown = /^Bearer ([\x21-\x7e]{1,1024})$/i.exec(request.headers.get('authorization') ?? '')?.[1]
    let fits = false
    for (const secret of spec ? scimTokens(spec) : []) {
      // Two while the token is changed. One that is not there yet lets nobody in, and does not stop the other.
      const token = await reveal(secret).catch((error: unknown) => {
        if (toChaperoneError(error).code !== 'not_found') throw error
        return ''
      })
      if (shown !== undefined && token.length >= SHORTEST_TOKEN && timingSafeEqual(digest(shown), digest(token))) fits = true
    }
    if (spec && fits) return { directory: name, spec, base: `https://${places.web}/scim/v2/${name}` }
    throttle(remote)
    await audit.append({
      type: 'credential.refused',
      outcome: { status: 'refused', reason: 'unauthenticated' },
      data: { how: 'scim', directory: name.slice(0, 64), reason: 'unauthenticated', from: remote },
    })
    throw new ScimError(401, 'The token is not the one of this directory.')
  }

  function answerTo(error: unknown): Response {
    if (error instanceof ScimError) return refuse(error)
    const known = toChaperoneError(error)
    const { http } = REASONS[known.code]
    if (http >= 500) parts.log(known, 'scim')
    if (known.code === 'conflict') return refuse(new ScimError(409, known.message, 'uniqueness'))
    if (known.code === 'malformed' || known.code === 'ambiguous') return refuse(invalid(known.message, 'invalidSyntax'))
    return refuse(new ScimError(http, http >= 500 ? 'This did not work here; try again later.' : known.message))
  }

  const listener = getRequestListener(
    (request, env) => scim.fetch(request, addressOf(env.incoming as IncomingMessage)),
    // The global Request and Response stay what they are: other libraries in this process use them too.
    { overrideGlobalObjects: false, errorHandler: (error) => answerTo(error) },
  )
  const scim: Scim = {
    has: (path) => PATH.test(path),
    // Hono would run the GET handler for a HEAD.
    fetch: async (request, remote) =>
      request.method === 'HEAD' ? refuse(new ScimError(501, 'HEAD is not answered.')) : app.fetch(request, { remote }),
    async handle(incoming, outgoing) {
      await listener(incoming, outgoing)
    },
  }
  return scim
}

const HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const

const json = (value: unknown, status = 200, more: Readonly<Record<string, string>> = {}): Response =>
  new Response(JSON.stringify(value), { status, headers: { ...HEADERS, 'Content-Type': TYPE, ...more } })

const created = (value: Attributes): Response => json(value, 201, { Location: String((value.meta as Attributes).location) })

const refuse = (error: ScimError): Response =>
  json(errorBody(error), error.status, error.status === 401 ? { 'WWW-Authenticate': 'Bearer realm="scim"' } : {})

const nothing = (): never => {
  throw unknown()
}

const listOf = ({ total, resources }: Listed, startIndex: number) => ({
  schemas: [LIST],
  totalResults: total,
  startIndex,
  itemsPerPage: resources.length,
  Resources: resources,
})

/** RFC 7644 section 3.4.2.4: less than one is one; a negative count is none. */
function pageIn(request: Request): Page {
  const query = new URL(request.url).searchParams
  const number = (name: string, otherwise: number) => {
    const text = query.get(name)
    if (text === null) return otherwise
    if (!/^-?\d{1,9}$/.test(text)) throw invalid(`\`${name}\` is a number.`)
    return Number(text)
  }
  return { startIndex: Math.max(1, number('startIndex', 1)), count: Math.min(MOST_RESULTS, Math.max(0, number('count', 100))) }
}

const filterIn = (request: Request) => {
  const text = new URL(request.url).searchParams.get('filter')
  return text === null || text.trim() === '' ? [] : parseFilter(text)
}

/** `attributes` and `excludedAttributes`, of the first level. `id`, `schemas` and `meta` are always there. */
function chosen(request: Request, value: Attributes | ReturnType<typeof listOf>): unknown {
  const query = new URL(request.url).searchParams
  const names = (name: string) =>
    query
      .get(name)
      ?.split(',')
      .map((one) => one.trim().toLowerCase().split('.')[0])
  const [only, not] = [names('attributes'), names('excludedAttributes')]
  if (!only && !not) return value
  const cut = (one: Attributes): Attributes =>
    Object.fromEntries(
      Object.entries(one).filter(([key]) => {
        const lower = key.toLowerCase()
        return ['id', 'schemas', 'meta'].includes(lower) || ((!only || only.includes(lower)) && !not?.includes(lower))
      }),
    )
  return 'Resources' in value ? { ...value, Resources: (value.Resources as readonly Attributes[]).map(cut) } : cut(value as Attributes)
}

async function bodyOf(request: Request): Promise<Attributes> {
  const type = request.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase()
  if (type !== TYPE && type !== 'application/json') throw new ScimError(415, `The body must be ${TYPE}.`)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength
    if (size > MOST_BYTES) throw new ScimError(413, `A body has at most ${MOST_BYTES} bytes.`)
    chunks.push(chunk)
  }
  const { value } = parseStrict(Buffer.concat(chunks), { maxBytes: MOST_BYTES })
  if (!isObject(value as never)) throw invalid('The body is an object.', 'invalidSyntax')
  return value as Attributes
}
