import { X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { TTL } from '../ca/types.ts'
import { directoryFaults, directorySpec } from '../catalog/directory.ts'
import { mcpServerSpec, OWN_SERVER } from '../catalog/mcp-server.ts'
import { notifierSpec } from '../catalog/notifier.ts'
import { agentOauthSpec, oauthClientSpec } from '../catalog/oauth-client.ts'
import { postgresDatabaseSpec } from '../catalog/postgres-database.ts'
import { profileFaults, profileSpec } from '../catalog/profile.ts'
import { secretSpec } from '../catalog/secret.ts'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { joinFaults, joinSpec } from '../identity/joining/document.ts'
import { isName } from '../identity/names.ts'
import { termText } from '../identity/terms.ts'
import { tripwireFaults, tripwireSpec } from '../identity/tripwire.ts'
import { checkGuardrail } from '../policy/guardrail.ts'
import type { SpecProblem } from '../policy/problem.ts'
import { checkRole } from '../policy/role.ts'
import type { Vocabulary } from '../policy/types.ts'
import { zodFaults } from './faults.ts'
import { notifierFaults } from './notifiers.ts'
import type { DocumentKind, DocumentKinds, Fault } from './types.ts'

const SPELLING = 'Write lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit.'

const roles = z.array(z.string().min(1).max(63)).max(64).default([])
const trait = z.union([z.string().max(1024), z.number(), z.boolean(), z.array(z.string().max(1024)).max(100)])
const traits = z.record(z.string().min(1).max(64), trait).default({})
const state = z.enum(['active', 'disabled']).optional()

/** `kind: user`: a person. Enrols with an invitation; the document says only who it is and what they may do. */
export const userSpec = z.strictObject({
  roles: roles.describe('names of roles'),
  traits: traits.describe('facts about the person that rules may read: team, country'),
  state: state.describe('default: active; a disabled identity can do nothing'),
  account: z
    .strictObject({
      directory: z.string().min(1).max(63),
      subject: z.string().min(1).max(512).optional().describe("the directory's own id of the person (`sub`), which never changes"),
      user_name: z
        .string()
        .min(1)
        .max(256)
        .optional()
        .describe('as the claim for names, or `userName` of SCIM, says it; believed until somebody has signed in with it once'),
    })
    .optional()
    .describe('who this is in the directory of the company: without it nobody who signs in there is taken for a person who is here already'),
})

/** `kind: agent`: a non-human identity. Somebody answers for it. */
export const agentSpec = z.strictObject({
  owner: z.string().describe('name of the user who answers for the agent'),
  roles: roles.describe('names of roles'),
  traits: traits.describe('facts about the agent that rules may read'),
  state: state.describe('default: active; a disabled identity can do nothing'),
  may_act: z
    .array(z.string().min(1).max(127))
    .max(50)
    .optional()
    .describe('names of agents of other owners that may hand on to it what they may do; those of its own owner may'),
  oauth: agentOauthSpec
    .optional()
    .describe('public keys with which it gets tokens by itself (client_credentials, private_key_jwt); the client id is its name'),
  unused: termText.optional().describe('an agent that nobody uses for so long is stopped: 30d'),
  review: termText.optional().describe('it is stopped unless its owner, or who may, says so often that it is still wanted: 90d'),
})

/** Every kind of document there is. The vocabularies are the words that rules may use. */
export function documentKinds(vocabularies: readonly Vocabulary[]): DocumentKinds {
  type Checked = { readonly ok: true } | { readonly ok: false; readonly problems: readonly SpecProblem[] }
  const policyKind = (kind: string, check: (spec: unknown, words: readonly Vocabulary[]) => Checked): DocumentKind => ({
    kind,
    nameFault: plainName,
    check(spec) {
      const checked = check(spec, vocabularies)
      if (checked.ok) return { spec: spec as Record<string, unknown>, faults: [] }
      return { faults: checked.problems.map((problem): Fault => ({ ...problem, atKey: problem.message.startsWith('Unknown key') })) }
    },
  })
  const kinds: DocumentKind[] = [
    policyKind('role', checkRole),
    policyKind('guardrail', checkGuardrail),
    schemaKind('mcp', mcpServerSpec, serverName, (spec) => pemFaults(spec.ca, ['ca'])),
    schemaKind('postgres', postgresDatabaseSpec, plainName, (spec) => [
      ...(spec.tls.ca === 'public' ? [] : pemFaults(spec.tls.ca, ['tls', 'ca'])),
      ...lifeFaults(spec.credential_ttl, ['credential_ttl']),
    ]),
    schemaKind('notifier', notifierSpec, plainName, (spec) => [
      ...notifierFaults(spec),
      ...(['webhook', 'slack'] as const).flatMap((way) => pemFaults(spec[way]?.ca, [way, 'ca'])),
      ...pemFaults(spec.mail?.smtp.ca, ['mail', 'smtp', 'ca']),
    ]),
    schemaKind('secret', secretSpec, plainName),
    schemaKind('oauth-client', oauthClientSpec, plainName),
    schemaKind('profile', profileSpec, plainName, profileFaults),
    schemaKind('tripwire', tripwireSpec, plainName, tripwireFaults),
    schemaKind('join', joinSpec, plainName, (spec) => [...joinFaults(spec)]),
    schemaKind('directory', directorySpec, plainName, (spec) => [...directoryFaults(spec), ...pemFaults(spec.ca, ['ca'])]),
    schemaKind(
      'user',
      userSpec,
      (name) => (isName('user', name) ? undefined : `\`${short(name)}\` cannot be the name of a user. ${SPELLING}`),
      ({ account }) =>
        account && (account.subject === undefined) === (account.user_name === undefined)
          ? [{ path: ['account'], message: 'An account is named by its `subject` or by its `user_name`.', fix: 'Write one of the two.' }]
          : [],
    ),
    schemaKind(
      'agent',
      agentSpec,
      (name) => (isName('agent', name) ? undefined : `\`${short(name)}\` cannot be the name of an agent. ${SPELLING}`),
      (spec, name) => {
        const [before, client] = name.split('/')
        if (client === undefined || before === spec.owner) return []
        return [
          {
            path: ['owner'],
            message: `An agent named ${short(name)} is a client of ${short(before ?? '')}, so that is its owner.`,
            fix: `Write owner: ${short(before ?? '')}.`,
          },
        ]
      },
    ),
  ]
  return new Map(kinds.map((kind) => [kind.kind, kind]))
}

function schemaKind<T extends z.ZodType>(
  kind: string,
  schema: T,
  nameFault: DocumentKind['nameFault'],
  more: (spec: z.infer<T>, name: string) => readonly Fault[] = () => [],
): DocumentKind {
  const known = 'shape' in schema ? Object.keys(schema.shape as object) : []
  return {
    kind,
    nameFault,
    check(spec, name) {
      const parsed = schema.safeParse(spec)
      if (!parsed.success) return { faults: zodFaults(parsed.error, spec, known) }
      const faults = more(parsed.data, name)
      if (faults.length > 0) return { faults }
      // What is absent must be absent: canonical JSON has no undefined.
      return { spec: JSON.parse(JSON.stringify(parsed.data)) as Record<string, unknown>, faults }
    },
  }
}

/** Names of resources stand in URLs, SNI and `database=resource/db`, names of roles in records: one spelling for all. */
const plainName = (name: string): string | undefined =>
  isName('user', name)
    ? name === 'any'
      ? '`any` means everything in a rule, so nothing can have this name.'
      : undefined
    : `\`${short(name)}\` cannot be a name. ${SPELLING}`

/** At the name of our own server agents ask for themselves: a document there would be asked in its place. */
const serverName = (name: string): string | undefined =>
  name === OWN_SERVER ? `\`${OWN_SERVER}\` is the name of Chaperone's own MCP server, at which agents ask for access.` : plainName(name)

const short = (name: string) => name.slice(0, 80)

function pemFaults(pem: string | undefined, path: Fault['path']): Fault[] {
  if (pem === undefined) return []
  try {
    new X509Certificate(pem)
    return []
  } catch {
    return [{ path, message: 'This is not a certificate in PEM.', fix: 'Paste the whole block, from -----BEGIN CERTIFICATE----- on.' }]
  }
}

function lifeFaults(text: string, path: Fault['path']): Fault[] {
  try {
    const ms = parseDuration(text)
    if (ms >= TTL.shortestMs && ms <= TTL.longestMs) return []
    return [{ path, message: 'A credential lives between 30s and 12h.' }]
  } catch (error) {
    if (!(error instanceof ChaperoneError)) throw error
    return [{ path, message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) }]
  }
}
