import { z } from 'zod'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { type By, type LoginServer, subjectOf } from '../vault/logins.ts'
import { applierOf } from './caller.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type AskedInSession, type Route, signedIn } from './route.ts'

const text = z.string().min(1).max(8192)

interface Begin {
  /** where the browser brings the answer: a port on the machine of the person */
  readonly redirect: string
}

interface Finish {
  readonly state: string
  readonly code?: string
  readonly iss?: string
  readonly error?: string
}

/** Logins at MCP servers that want OAuth: one for everybody is a secret of the house, one of each is his own. */
export function mcpLoginRoutes(parts: ApiParts): readonly Route[] {
  const { logins, state, guard } = parts

  const known = (name: string): LoginServer => {
    const found = state.current().find('mcp', name)
    if (!found) throw unknown()
    return { id: found.resource.id, name: found.resource.name, spec: found.spec as McpServerSpec }
  }
  const knownById = (id: string): LoginServer | undefined => {
    const found = state
      .current()
      .list('mcp')
      .find(({ resource }) => resource.id === id)
    return found && { id, name: found.resource.name, spec: found.spec as McpServerSpec }
  }
  /** Whether he may use the server at all; to others it is not there (rule 8). */
  const maySee = (session: LiveSession, name: string): boolean => {
    const found = state.current().find('mcp', name)
    if (!found) return false
    const { resource } = found
    return guard.judge(session, { kind: 'mcp', resource, operation: 'list', effects: ['read'], facts: {}, summary: 'list' }).visible
  }
  const isOwn = (session: LiveSession, name: string): boolean => maySee(session, name) && known(name).spec.auth?.oauth?.for === 'each'
  const who = {
    by: 'verbs',
    anyOf: ['secrets'],
    own: { when: 'otherwise', test: (asked: Asked<unknown>) => isOwn((asked as AskedInSession<unknown>).session, asked.params.name ?? '') },
  } as const
  const byOf = ({ session }: AskedInSession<unknown>): By => {
    const { holds: _, ...who } = applierOf(parts, session)
    return { ...who, credential: session.principal.credentialId }
  }

  return [
    signedIn<Begin>({
      method: 'POST',
      path: '/v1/mcp/:name/login',
      who,
      body: z.strictObject({ redirect: text }),
      summary: ({ params }) => `log in at mcp/${params.name}`,
      async handle(asked) {
        const server = known(asked.params.name ?? '')
        const subject = whoLogsIn(asked.session, server)
        return logins.begin(server, { subject, identity: asked.session.principal.identityId, redirect: asked.body.redirect, by: byOf(asked) })
      },
    }),
    signedIn<Finish>({
      method: 'POST',
      path: '/v1/mcp-logins/finish',
      who: {
        by: 'verbs',
        anyOf: ['secrets'],
        own: {
          when: 'otherwise',
          async test(asked) {
            const mine = asked as AskedInSession<Finish>
            const began = await logins.began(mine.body.state, mine.session.principal.identityId)
            const server = began && knownById(began.resource)
            return server !== undefined && isOwn(mine.session, server.name)
          },
        },
      },
      // What it holds is worth a token until it is used.
      secretBody: true,
      body: z.strictObject({ state: text, code: text.optional(), iss: text.optional(), error: text.optional() }),
      summary: () => 'finish a login at an MCP server',
      async handle(asked) {
        const { body, session } = asked
        const identity = session.principal.identityId
        const began = await logins.began(body.state, identity)
        const server = began && knownById(began.resource)
        if (!server)
          throw new ChaperoneError(
            'not_found',
            'There is no such login: it was used already, it took longer than ten minutes, or somebody else began it.',
          )
        const { issuer, scope } = await logins.finish(server, body, { identity, by: byOf(asked) })
        return { server: server.name, issuer, ...(scope === undefined ? {} : { scope }) }
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/mcp/:name/login',
      who,
      summary: ({ params }) => `log out at mcp/${params.name}`,
      async handle(asked) {
        const server = known(asked.params.name ?? '')
        return logins.remove(server, { subject: whoLogsIn(asked.session, server), by: byOf(asked) })
      },
    }),
  ]
}

/**
 * A login of each is given by whoever it is of, himself: an agent of his that finished one could put its own account in the
 * place of his, and what he sends there would be the agent's.
 */
function whoLogsIn({ principal }: LiveSession, server: LoginServer): string {
  const subject = subjectOf(server, principal.chain)
  if (subject === '*' || principal.chain.length === 1) return subject
  throw new ChaperoneError('usage', 'An agent that acts for somebody does not log in for him.', {
    fix: `He does it himself: chaperone mcp login ${server.name}`,
  })
}

const unknown = () => new ChaperoneError('not_found', 'There is no MCP server of that name.', { fix: 'See the list: chaperone mcp ls' })

/** The server at which this person may log in for himself by a page: one that he may see, and whose login is of each. Throws `not_found`. */
export function ownLoginAt({ state, guard }: Pick<ApiParts, 'state' | 'guard'>, session: LiveSession, name: string): LoginServer {
  const found = state.current().find('mcp', name)
  if (!found) throw unknown()
  const { resource, spec } = found as { readonly resource: typeof found.resource; readonly spec: McpServerSpec }
  const { visible } = guard.judge(session, { kind: 'mcp', resource, operation: 'list', effects: ['read'], facts: {}, summary: 'list' })
  if (!visible || spec.auth?.oauth?.for !== 'each') throw unknown()
  return { id: resource.id, name: resource.name, spec }
}
