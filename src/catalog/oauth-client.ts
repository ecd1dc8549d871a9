import { z } from 'zod'

/**
 * `kind: oauth-client`: an OAuth client that is known by its document and not fetched: the client metadata document of a program,
 * pinned for networks from which it cannot be fetched, or a client that an administrator writes down himself.
 */

const MOST_REDIRECTS = 20
/** Keys are published: nothing private may stand among them. */
const jwk = z
  .record(z.string(), z.unknown())
  .refine((key) => typeof key.kty === 'string' && key.kty !== 'oct', { message: 'a public key of a kind such as EC, OKP or RSA' })
  .refine((key) => !('d' in key) && !('k' in key), { message: 'this is a private key: write only its public part' })

export const jwksSchema = z.strictObject({ keys: z.array(jwk).min(1).max(10) })

const redirectUri = z
  .string()
  .max(512)
  .refine(isRedirect, { message: 'write an https:// address, or http:// on localhost, 127.0.0.1 or [::1]; nothing behind `#`' })

const httpsUrl = z.url({ protocol: /^https$/ }).max(512)

export const oauthClientSpec = z
  .strictObject({
    client_id: z
      .string()
      .regex(/^[\x21-\x7e]{1,512}$/, 'letters, digits and signs without spaces')
      .describe('as the client sends it: the address of its metadata document, or a name of yours'),
    client_name: z.string().min(1).max(100).describe('as people read it when they are asked'),
    redirect_uris: z
      .array(redirectUri)
      .max(MOST_REDIRECTS)
      .default([])
      .describe('where an answer may be sent; compared exactly, but for the port on this computer'),
    client_uri: httpsUrl.optional().describe('home page'),
    token_endpoint_auth_method: z.enum(['none', 'private_key_jwt']).optional().describe('default: private_key_jwt where there are keys, else none'),
    jwks: jwksSchema.optional().describe('public keys with which the client signs (private_key_jwt)'),
    jwks_uri: httpsUrl.optional().describe('the same, fetched; https and public'),
    agent: z.string().min(1).max(127).optional().describe('the agent that this client is when it comes by itself (client_credentials); needs keys'),
    directories: z
      .array(z.string().min(1).max(63))
      .max(10)
      .optional()
      .describe("directories whose assertion (ID-JAG) stands in the place of the person's consent; needs keys"),
    profile: z.string().min(1).max(63).optional().describe('what it gets at the most of a person for whom a directory speaks; default: everything'),
  })
  .refine((spec) => spec.jwks === undefined || spec.jwks_uri === undefined, { message: 'write jwks or jwks_uri, not both' })
  .refine((spec) => spec.agent === undefined || spec.jwks !== undefined || spec.jwks_uri !== undefined, {
    message: 'a client that comes by itself proves who it is with a key: write jwks or jwks_uri',
  })
  .refine((spec) => !spec.directories?.length || spec.jwks !== undefined || spec.jwks_uri !== undefined, {
    message: 'a client for which a directory speaks proves who it is with a key: write jwks or jwks_uri',
  })
  .refine((spec) => spec.redirect_uris.length > 0 || spec.agent !== undefined || spec.directories?.length, {
    message: 'write redirect_uris, for people; agent, for a client that comes by itself; or directories',
  })
  .refine((spec) => spec.token_endpoint_auth_method !== 'private_key_jwt' || spec.jwks !== undefined || spec.jwks_uri !== undefined, {
    message: 'private_key_jwt needs jwks or jwks_uri',
  })

/** `oauth` of an agent's document: the keys with which it comes by itself, as the client of its name. */
export const agentOauthSpec = z
  .strictObject({ jwks: jwksSchema.optional(), jwks_uri: httpsUrl.optional() })
  .refine((spec) => (spec.jwks === undefined) !== (spec.jwks_uri === undefined), { message: 'write jwks or jwks_uri' })
export type AgentOauthSpec = z.infer<typeof agentOauthSpec>

export type OauthClientSpec = z.infer<typeof oauthClientSpec>

const LOOPBACK: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]'])

/** Whether any program on the person's computer could be behind it. */
export const isLoopbackRedirect = (uri: string): boolean => {
  const url = URL.parse(uri)
  return url?.protocol === 'http:' && LOOPBACK.has(url.hostname)
}

/** RFC 9700 section 2.1, MCP authorization: https, or http on this computer; no fragment, no password. Other schemes belong to whoever registers them first. */
export function isRedirect(uri: string): boolean {
  const url = URL.parse(uri)
  if (!url || uri.includes('#') || url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || isLoopbackRedirect(uri)
}
