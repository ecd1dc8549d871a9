import { z } from 'zod'
import { formatDuration, parseDuration } from '../encoding/duration.ts'
import { compileGlob } from '../encoding/glob.ts'
import type { ChaperoneError } from '../errors.ts'

/** What of an allow rule a claim is held against: a value, a pattern, or several of them, of which one must fit. */
const expected = z.union([
  z.boolean(),
  z.string().min(1).max(256).superRefine(isPattern),
  z.array(z.string().min(1).max(256).superRefine(isPattern)).min(1).max(100),
])

const claim = z.string().min(1).max(128)
const secret = z.strictObject({ secret: z.string().min(1).max(128).describe('name of a sealed secret in the vault') })
const roles = z.array(z.string().min(1).max(63)).max(64)
/** Discovery compares it letter by letter (RFC 8414 section 3.3), so it is written as the provider writes it. */
const issuer = z
  .url({ protocol: /^https$/ })
  .max(512)
  .refine((text) => !/[?#]/.test(text) && URL.parse(text)?.username === '', 'an issuer is an https address without a query')
  .describe('as the provider writes it in its discovery document')

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const time = (longest: number) =>
  z.string().superRefine((text, context) => {
    try {
      const ms = parseDuration(text)
      if (ms < MINUTE_MS || ms > longest) context.addIssue({ code: 'custom', message: `at least 1m, at most ${formatDuration(longest)}` })
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as ChaperoneError).message })
    }
  })

const signIn = {
  issuer: issuer.optional(),
  client_id: z.string().min(1).max(256).optional().describe('of the application that was registered for Chaperone'),
  client_secret: secret.optional().describe('default: a public client, which PKCE alone protects'),
  scopes: z.array(z.string().min(1).max(64)).max(20).default(['openid', 'profile', 'email']),
  allow: z
    .record(claim, expected)
    .default({})
    .describe('claims that must all be there and fit: `hd: example.com`, `groups: [eng, ops]`; a value, a pattern, or a list of which one must fit'),
  name: z
    .strictObject({
      claim: claim.default('preferred_username'),
      domain: z.string().min(1).max(253).toLowerCase().optional().describe('what stands after the @, and is cut off; anything else there is refused'),
    })
    .default({ claim: 'preferred_username' })
    .describe('where the name of a new person comes from'),
  groups: claim.default('groups').describe('the claim that names groups; `scim`: groups are what SCIM keeps here, and no claim is asked'),
  factor: z
    .enum(['own', 'directory', 'either'])
    .default('own')
    .describe(
      "own: deciding takes a code or a passkey of Chaperone. either: the directory's second factor of a moment ago counts too, when its token says so. directory: only that one, and no code or passkey of Chaperone",
    ),
  factor_values: z
    .array(z.string().min(1).max(256))
    .max(20)
    .default(['mfa', 'hwk', 'swk', 'otp', 'fpt', 'face'])
    .describe('`amr` or `acr` values that say that a second factor was given (RFC 8176)'),
  create: z.boolean().default(false).describe('whether somebody unknown becomes a person here at the first sign-in'),
  recheck: time(DAY_MS / 2)
    .optional()
    .describe(
      'while sessions run, the provider is asked this often whether they may (`15m`), by a refresh token that it must give at the sign-in; what it refuses ends',
    ),
  recheck_grace: time(DAY_MS).default('1h').describe('how much later sessions end when the provider could not be asked'),
  match: claim.default('sub').describe('the claim that is the `externalId` of SCIM, where both are used'),
  ca: z.string().optional().describe('PEM of the authority of the provider, believed beside the public ones'),
  allow_private: z.boolean().default(false).describe('the provider lies in a private network'),
  jwks: z
    .strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1).max(20) })
    .optional()
    .describe('its signing keys, pinned; default: what it publishes'),
}

/** `kind: directory`: where a company keeps its people. They sign in there (OpenID Connect), it tells us of joiners and leavers (SCIM), or both. */
export const directorySpec = z.strictObject({
  title: z.string().min(1).max(64).optional().describe('what the button says: "Sign in with ..."; default: the name'),
  ...signIn,
  roles: z
    .record(z.string().min(1).max(256), roles)
    .default({})
    .describe('roles by group, added to those a person has already; `*` is everybody of this directory'),
  traits: z.record(z.string().min(1).max(64), claim).default({}).describe('traits of the person, each from a claim'),
  scim: z
    .strictObject({
      token: z.union([secret, z.array(secret).min(1).max(2)]).describe('the bearer token that the directory shows; two while it is changed'),
    })
    .optional(),
})
export type DirectorySpec = z.infer<typeof directorySpec>

/** What the fields cannot say each by itself. */
export function directoryFaults(
  spec: DirectorySpec,
): readonly { readonly path: readonly (string | number)[]; readonly message: string; readonly fix?: string }[] {
  const faults: { path: (string | number)[]; message: string; fix?: string }[] = []
  if ((spec.issuer === undefined) !== (spec.client_id === undefined))
    faults.push({
      path: [],
      message: 'Signing in takes both an `issuer` and a `client_id`.',
      fix: 'Write both, or neither where SCIM alone is used.',
    })
  if (spec.issuer === undefined && spec.scim === undefined)
    faults.push({ path: [], message: 'Nobody signs in at this directory, and it tells nothing.', fix: 'Write `issuer` and `client_id`, or `scim`.' })
  if (spec.groups === 'scim' && spec.scim === undefined)
    faults.push({ path: ['groups'], message: 'Groups shall come from SCIM, and there is no `scim`.', fix: 'Write `scim: {token: {secret: NAME}}`.' })
  if (spec.issuer !== undefined && !spec.scopes.includes('openid'))
    faults.push({ path: ['scopes'], message: 'Without the scope `openid` nobody is named.', fix: 'Add openid.' })
  if (spec.recheck !== undefined && spec.issuer === undefined)
    faults.push({ path: ['recheck'], message: 'There is no provider to ask again.', fix: 'Write `issuer` and `client_id`, or leave `recheck` out.' })
  // Anybody at all has an account with these: without a rule everybody in the world would be let in.
  if (spec.issuer !== undefined && OPEN_TO_ALL.test(spec.issuer) && Object.keys(spec.allow).length === 0)
    faults.push({
      path: ['allow'],
      message: 'Anybody can have an account with this issuer.',
      fix: 'Say whose may come in, for example `allow: {hd: example.com}`.',
    })
  return faults
}

const OPEN_TO_ALL =
  /^https:\/\/(?:accounts\.google\.com|login\.microsoftonline\.com\/(?:common|organizations|consumers)(?:\/|$)|appleid\.apple\.com|gitlab\.com)/

/** Names of the secrets that may be shown as the SCIM token. */
export const scimTokens = ({ scim }: DirectorySpec): readonly string[] => (scim === undefined ? [] : [scim.token].flat().map((one) => one.secret))

function isPattern(text: string, context: z.RefinementCtx): void {
  try {
    compileGlob(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as ChaperoneError).message })
  }
}
