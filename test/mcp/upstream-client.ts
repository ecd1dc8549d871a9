/**
 * The client that the conformance suite starts in client mode, with the URL of its server as the last argument:
 *
 *   conformance client --command "node test/mcp/upstream-client.ts" --requirements 2026-07-28
 *
 * An ordinary client speaks to the MCP gateway, and the gateway to the suite: so what the suite sees is our upstream leg,
 * with its logins (vault/oauth) where a scenario wants OAuth. Who logs in here says yes to everything.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { mcpServerSpec } from '../../src/catalog/mcp-server.ts'
import { systemClock } from '../../src/clock.ts'
import { REASONS } from '../../src/errors.ts'
import { harness } from '../../src/gateways/mcp/harness.fixture.ts'
import { openKeyring } from '../../src/keys/keyring.ts'
import { loadRootKey } from '../../src/keys/root-key.ts'
import { openStore } from '../../src/store/open.ts'
import { openLogins } from '../../src/vault/oauth.ts'

const url = process.argv.at(-1)!
const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? ''
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28'
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}') as {
  readonly client_id?: string
  readonly client_secret?: string
  readonly private_key_pem?: string
  /** what our minted identity is in these scenarios: keys of the suite's own */
  readonly valid_jwt?: string
  readonly idp_id_token?: string
  readonly idp_client_id?: string
  readonly idp_token_endpoint?: string
  readonly toolCalls?: readonly { readonly name: string; readonly arguments: Record<string, unknown> }[]
}

const REDIRECT = 'http://127.0.0.1:4711/callback'
/** The suite allows this many. */
const MOST_LOGINS = 3
const CLIENT_DOCUMENT = 'https://conformance-test.local/client-metadata.json'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-client-'))
const clock = systemClock
const store = await openStore({ dataDir: dir }, { clock })
const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
const audit = { append: async () => ({ id: 'rec', seq: 1 }), addSecrets() {} }
const assertion = context.idp_id_token ?? context.valid_jwt ?? ''
const logins = openLogins({
  store,
  keyring,
  clock,
  audit,
  reveal: async (name) => (name === 'key' ? context.private_key_pem : context.client_secret) ?? '',
  clientDocument: CLIENT_DOCUMENT,
  machine: {
    assertions: {
      path: '/identity',
      issuer: 'https://conformance-test.local/identity',
      mint: async () => ({ token: assertion, id: 'one', expiresAt: clock.now() + 300_000 }),
      keys: async () => ({ keys: [] }),
    },
    identify: (id) => ({ spiffe: `spiffe://conformance.test/user/${id}`, name: id }),
  },
})
const registered = {
  ...(context.client_id === undefined ? {} : { client_id: context.client_id }),
  ...(context.client_secret === undefined ? {} : { client_secret: { secret: 'client' } }),
}
const client = { client_id: context.client_id, client_secret: context.client_secret === undefined ? undefined : { secret: 'client' } }
/** What the document of such a server would say. */
const AUTH: Readonly<Record<string, unknown>> = {
  'auth/client-credentials-jwt': { client_credentials: { client_id: context.client_id, private_key: { secret: 'key' } } },
  'auth/client-credentials-basic': { client_credentials: client },
  'auth/wif-jwt-bearer': { identity: { audience: 'suite', exchange: { by: 'jwt-bearer' } } },
  'auth/enterprise-managed-authorization': {
    identity: {
      audience: context.idp_client_id,
      exchange: {
        by: 'jwt-bearer',
        ...client,
        identity_provider: { token_endpoint: context.idp_token_endpoint, client_id: context.idp_client_id },
      },
    },
  },
}
const spec = { url, ...(scenario.startsWith('auth/') ? { auth: AUTH[scenario] ?? { oauth: registered } } : {}) }
const gateway = await harness({ role: { allow: [{ mcp: 'any', can: 'any' }] }, servers: { suite: spec }, logins })

let asked = 0

/** As `chaperone mcp login` does it; the suite's page for the browser says yes at once, by a redirect. */
async function logIn(): Promise<void> {
  if (++asked > MOST_LOGINS) throw new Error('The server wants more logins than anybody would give.')
  const server = { id: 'res_suite', name: 'suite', spec: mcpServerSpec.parse(spec) }
  const { url: page } = await logins.begin(server, { subject: '*', identity: 'usr_1', redirect: REDIRECT, by: {} })
  const answer = await fetch(page, { redirect: 'manual' })
  const query = new URL(answer.headers.get('location') ?? '').searchParams
  await logins.finish(server, Object.fromEntries(query) as { state: string }, { identity: 'usr_1', by: {} })
}

/** The SDK's era negotiation says nothing of the error that it met; the record does. */
function wantsLogin(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown }
  if (code === REASONS.upstream_login_required.jsonrpc) return true
  return code === 'ERA_NEGOTIATION_FAILED' && JSON.stringify(gateway.of('action.outcome').at(-1)?.outcome).includes('upstream_login_required')
}

async function withLogin<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!wantsLogin(error)) throw error
      await logIn()
    }
  }
}

async function connect(): Promise<Client> {
  const client = new Client(
    { name: 'chaperone-upstream', version: '1.0.0' },
    {
      capabilities: { elicitation: { form: { applyDefaults: true } } },
      ...(modern ? { versionNegotiation: { mode: { pin: '2026-07-28' } } } : {}),
    },
  )
  const filled: Record<string, boolean> = scenario.startsWith('elicitation') ? {} : { confirmed: true }
  client.setRequestHandler('elicitation/create', async () => ({ action: 'accept' as const, content: filled }))
  await client.connect(new StreamableHTTPClientTransport(new URL(`${gateway.base}suite`)))
  return client
}

/** Something of the right type for each argument that a tool demands. */
function argumentsFor(schema: { readonly properties?: Record<string, unknown> }): Record<string, unknown> {
  const values: Record<string, unknown> = { string: 'text', number: 3, integer: 3, boolean: true, array: [], object: {} }
  return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, of]) => [name, values[(of as { type?: string }).type ?? 'string']]))
}

try {
  const client = await withLogin(connect)
  const { tools } = await withLogin(() => client.listTools())
  const calls = context.toolCalls ?? tools.map(({ name, inputSchema }) => ({ name, arguments: argumentsFor(inputSchema) }))
  // The suite looks at what came through by having it sent back.
  for (const call of calls) if (call.name === 'json_schema_echo') call.arguments.schema = tools[0]!.inputSchema
  for (const call of calls) {
    try {
      await withLogin(() => client.callTool(call as { name: string; arguments: Record<string, unknown> }))
    } catch (error) {
      console.error(`${call.name}: ${String(error)}`)
      if (scenario.startsWith('auth/')) throw error
    }
  }
  await client.close()
} catch (error) {
  console.error(error)
  for (const { what, facts } of gateway.logs) console.error(what, JSON.stringify(facts))
  process.exitCode = 1
} finally {
  await gateway.close()
  await store.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 10 })
  await rm(`${dir}.key`, { force: true })
}
