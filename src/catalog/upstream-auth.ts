import { z } from 'zod'

const secret = z.strictObject({ secret: z.string().min(1).describe('name of a secret') })
const scopes = z.array(z.string().min(1).max(256)).max(100).optional()
const text = z.string().min(1).max(1024)
const https = z.url({ protocol: /^https?$/ }).max(2048)
const dpop = z
  .enum(['required', 'never'])
  .optional()
  .describe(
    'tokens that are bound to a key of Chaperone (DPoP, RFC 9449): only such ones, or none; default: where the server or its login offers them',
  )

const oauth = z.strictObject({
  for: z.enum(['everybody', 'each']).default('everybody').describe('one login that all use, or one of each person'),
  client_id: z.string().optional().describe('a client registered beforehand; else a client metadata document or dynamic registration'),
  client_secret: secret.optional().describe('name of a sealed secret in the vault'),
  scopes: z.array(z.string().min(1)).optional().describe('default: what the server asks for'),
  dpop,
})

const clientCredentials = z
  .strictObject({
    client_id: text.describe('the client as it is registered at the authorization server'),
    client_secret: secret.optional().describe('its secret'),
    private_key: secret
      .optional()
      .describe('its private key (PEM, PKCS #8): each request for a token is signed with it (`private_key_jwt`, RFC 7523), and no secret is sent'),
    key_id: text.optional().describe('the `kid` under which the authorization server knows the key'),
    scopes: scopes.describe('default: what the server asks for'),
    authorization_server: https.optional().describe('default: the one that the server names'),
    dpop,
  })
  .refine((spec) => (spec.client_secret === undefined) !== (spec.private_key === undefined), {
    message: 'write exactly one of `client_secret` and `private_key`',
  })

const identity = z
  .strictObject({
    audience: text.describe('who the token is for, as the server checks it in `aud`'),
    exchange: z
      .strictObject({
        by: z
          .enum(['token-exchange', 'jwt-bearer'])
          .describe('the grant: RFC 8693 (the minted token is the `subject_token`), or RFC 7523 (it is the `assertion`)'),
        client_id: text.optional().describe('the client as which it is asked'),
        client_secret: secret.optional().describe('its secret'),
        private_key: secret.optional().describe('or its private key (`private_key_jwt`)'),
        key_id: text.optional().describe('the `kid` of the key'),
        scopes: scopes.describe('default: what the server asks for'),
        authorization_server: https.optional().describe('default: the one that the server names'),
        dpop,
        identity_provider: z
          .strictObject({
            token_endpoint: https.describe('where it gives tokens'),
            client_id: text.describe('the client as which it is asked'),
            client_secret: secret.optional().describe('its secret'),
          })
          .optional()
          .describe(
            'a company identity provider that believes Chaperone: the minted token is brought there first, for an ID-JAG, and that one to the authorization server (by: jwt-bearer)',
          ),
      })
      .refine((spec) => spec.identity_provider === undefined || spec.by === 'jwt-bearer', { message: 'an ID-JAG is brought `by: jwt-bearer`' })
      .refine((spec) => spec.client_secret === undefined || spec.private_key === undefined, {
        message: 'write one of `client_secret` and `private_key`',
      })
      .refine((spec) => spec.client_id !== undefined || (spec.client_secret === undefined && spec.private_key === undefined), {
        message: 'a secret or key is that of a `client_id`',
      })
      .optional()
      .describe('the server wants a token of its own authorization server: the minted one is exchanged for it there'),
  })
  .describe('a token of five minutes that says who calls, on whose behalf, signed by Chaperone; the server verifies it with the published keys')

/** What Chaperone shows an upstream that is reached by URL. */
export const upstreamAuth = z
  .strictObject({
    oauth: oauth.optional().describe('the server wants OAuth; somebody logs in once with `chaperone mcp login NAME`'),
    client_credentials: clientCredentials.optional().describe('a login of Chaperone itself, without a person (OAuth client credentials)'),
    identity: identity.optional().describe('the identity of the caller'),
  })
  .refine((spec) => Object.values(spec).filter((one) => one !== undefined).length === 1, {
    message: 'write exactly one of `oauth`, `client_credentials` and `identity`',
  })

export type ClientCredentials = z.infer<typeof clientCredentials>
export type IdentityAuth = z.infer<typeof identity>
