import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { ChaperoneError } from '../errors.ts'
import type { Challenge } from './challenge.ts'
import { openProvers, provingFetch } from './dpop.ts'
import { type HeldRow, keyText, type LoginContext, type LoginsParts, type UpstreamLogins } from './logins.ts'
import { machineLogins } from './machine-logins.ts'
import { loginFlows } from './oauth-login.ts'
import { fitsDocument, loginRows } from './oauth-rows.ts'
import { loginTokens } from './oauth-tokens.ts'
import { openOutbound } from './outbound.ts'
import { tokenEndpoint } from './token-endpoint.ts'

/** Challenges that are remembered; each is a few hundred bytes. */
const MOST_HEARD = 1_000

export function openLogins(parts: LoginsParts): UpstreamLogins {
  const heard = new Map<string, Challenge>()
  const provers = openProvers(parts.clock)
  const context: LoginContext = {
    ...parts,
    provers,
    rows: loginRows(parts.store, parts.keyring, parts.clock),
    outbound: ({ name, spec }, depth) =>
      openOutbound({
        server: new URL(spec.url!),
        name,
        ca: spec.ca,
        clock: parts.clock,
        depth,
        ...(parts.resolve ? { resolve: parts.resolve } : {}),
      }),
    async tokenFetch(server, { key, depth, metadata, issuer }) {
      const { fetch } = context.outbound(server, depth)
      return key === undefined ? fetch : provingFetch(fetch, await provers.of(key), tokenEndpoint(issuer, metadata))
    },
    async withSecret({ spec }, client) {
      const { client_id, client_secret } = spec.auth?.oauth ?? {}
      if (client_id !== client.client_id || client_secret === undefined) return client
      const value = await parts.reveal(client_secret.secret)
      parts.audit.addSecrets([value])
      return { ...client, client_secret: value }
    },
    heard: {
      get: (key) => heard.get(keyText(key)),
      delete: (key) => void heard.delete(keyText(key)),
      set(key, challenge) {
        heard.delete(keyText(key))
        if (heard.size >= MOST_HEARD) heard.delete(heard.keys().next().value!)
        heard.set(keyText(key), challenge)
      },
    },
    changed: (key) => tokens.forget(key),
  }
  const tokens = loginTokens(context)
  const machine = parts.machine && machineLogins(context, parts.machine)
  return {
    ...loginFlows(context),
    async list() {
      const found: HeldRow[] = []
      for (const key of await context.rows.keys()) {
        const row = await context.rows.read(key)
        if (!row) continue
        const { issuer, scope, granted, obtainedAt, expiresAt, refresh, over = false } = row.held
        const fits = (spec: McpServerSpec) => fitsDocument(spec, row.held)
        const bound = row.held.key !== undefined
        found.push({ key, issuer, scope: granted ?? scope, obtainedAt, expiresAt: refresh === undefined ? expiresAt : undefined, over, bound, fits })
      }
      return found
    },
    of(server, chain) {
      if (server.spec.auth?.oauth) return tokens.of(server, chain)
      if (!machine) throw new ChaperoneError('unsupported', `The MCP server ${server.name} cannot be logged in to from here.`)
      return machine.of(server, chain)
    },
  }
}
