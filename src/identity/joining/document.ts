import { z } from 'zod'
import { TTL } from '../../ca/types.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { assertPattern, isGlob } from '../../encoding/glob.ts'
import { ChaperoneError } from '../../errors.ts'
import { awsSpec } from './aws.ts'
import { boundKeySpec } from './bound-key.ts'
import { githubSpec } from './github.ts'
import { gitlabSpec } from './gitlab.ts'
import { kubernetesSpec } from './kubernetes.ts'
import { JOIN_METHODS, type JoinMethodName } from './method.ts'
import { METHODS } from './methods.ts'
import { oidcSpec } from './oidc.ts'
import type { JoinRule } from './rules.ts'
import { notEverything } from './telling.ts'
import { x509Spec } from './x509.ts'

const MOST_RULES = 64
const MOST_CLAIMS = 32
const MOST_VALUES = 100

const value = z.string().min(1).max(1024)
const rule = z
  .record(z.string().min(1).max(256), z.union([value, z.array(value).min(1).max(MOST_VALUES)]))
  .refine((claims) => Object.keys(claims).length > 0 && Object.keys(claims).length <= MOST_CLAIMS, {
    message: `a rule names one to ${MOST_CLAIMS} claims`,
  })

/** How long a session lives that joined, when nobody says. What can prove itself again does so, and then a stolen credential is worth little. */
const LONGEST = '1h'

/** `kind: join`: by what an agent comes in, instead of by a secret. */
export const joinSpec = z.strictObject({
  agent: z.string().min(1).max(130).describe('name of the agent that whoever joins by this is'),
  method: z.enum(JOIN_METHODS).describe('what is shown'),
  oidc: oidcSpec.optional().describe('signed tokens of any issuer'),
  github: githubSpec.optional().describe('a job of GitHub Actions'),
  gitlab: gitlabSpec.optional().describe('a job of GitLab CI'),
  kubernetes: kubernetesSpec.optional().describe('a service account of a cluster'),
  aws: awsSpec.optional().describe('credentials of AWS, by a signed GetCallerIdentity'),
  'bound-key': boundKeySpec.optional().describe('a key pair of one machine'),
  x509: x509Spec.optional().describe('a certificate of an authority that you have already'),
  allow: z
    .array(rule)
    .max(MOST_RULES)
    .default([])
    .describe('rules about the claims; one of them must hold, with every claim in it: a value, a pattern with * and ?, or a list of these'),
  audience: z
    .string()
    .max(512)
    .regex(/^[\x21-\x7e]+$/, 'printable characters without spaces')
    .optional()
    .describe('whom a proof must be for; default: `https://<trust domain>`'),
  ttl: z.string().default('3m').describe('life of each credential, between 30s and 12h; whoever joins may ask for less'),
  longest: z.string().default(LONGEST).describe('life of the session, at most 12h; then it must join again'),
})
export type JoinSpec = z.infer<typeof joinSpec>

interface SpecFault {
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly fix?: string
  readonly atKey?: boolean
}

/** What a document says to its own method, with defaults. */
export const blockOf = (spec: JoinSpec): unknown => METHODS[spec.method].spec.parse(spec[spec.method] ?? {})

export const lifeOf = (text: string): number => parseDuration(text)

/** What is wrong with a document beyond its schema. Pure. */
export function joinFaults(spec: JoinSpec): readonly SpecFault[] {
  const method = METHODS[spec.method]
  const others = JOIN_METHODS.filter((name) => name !== spec.method && spec[name] !== undefined)
  const faults: SpecFault[] = others.map((name) => ({
    path: [name],
    atKey: true,
    message: `\`${name}\` is not read: the method is \`${spec.method}\`.`,
    fix: `Leave it out, or write method: ${name}.`,
  }))
  const block = method.spec.safeParse(spec[spec.method] ?? {})
  if (!block.success) {
    const lacking = block.error.issues.map(({ path }) => path.join('.')).join(', ')
    return [
      ...faults,
      { path: ['method'], message: `\`${spec.method}\` needs a block of that name with: ${lacking}.`, fix: `Add \`${spec.method}:\`.` },
    ]
  }
  for (const fault of method.faults?.(block.data) ?? []) faults.push({ ...fault, path: [spec.method, ...fault.path] })
  if (spec.allow.length === 0 && spec.method !== 'bound-key')
    faults.push({ path: ['allow'], message: 'Without a rule nobody joins.', fix: `Say who may: allow: [{ ${exampleOf(spec.method)} }]` })
  for (const [i, one] of spec.allow.entries()) faults.push(...ruleFaults(spec.method, one, ['allow', i]))
  for (const part of ['ttl', 'longest'] as const) faults.push(...lifeFaults(spec[part], part))
  return faults
}

const EXAMPLES: Readonly<Record<JoinMethodName, string>> = {
  oidc: 'sub: "..."',
  github: 'repository: octo/app',
  gitlab: 'project_path: group/app',
  kubernetes: 'namespace: agents, service_account: reporter',
  aws: 'account: "123456789012", role: reporter',
  'bound-key': 'key: "SHA256:..."',
  x509: 'dns: reporter.example.com',
}
const exampleOf = (method: JoinMethodName) => EXAMPLES[method]

function ruleFaults(name: JoinMethodName, rule: JoinRule, path: readonly (string | number)[]): SpecFault[] {
  const { claims, telling } = METHODS[name]
  const faults: SpecFault[] = []
  for (const [claim, wanted] of Object.entries(rule)) {
    if (claims && !claims.includes(claim))
      faults.push({
        path: [...path, claim],
        atKey: true,
        message: `${name} has no claim \`${claim.slice(0, 80)}\`.`,
        fix: `There are: ${claims.join(', ')}.`,
      })
    for (const text of typeof wanted === 'string' ? [wanted] : wanted) {
      try {
        if (isGlob(text)) assertPattern(text)
      } catch (error) {
        if (!(error instanceof ChaperoneError)) throw error
        faults.push({ path: [...path, claim], message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) })
      }
    }
  }
  const all = (wanted: string | readonly string[]) => (typeof wanted === 'string' ? [wanted] : wanted)
  const tells = telling
    ? Object.entries(telling).some(([claim, says]) => Object.hasOwn(rule, claim) && all(rule[claim]!).every(says))
    : Object.values(rule).some((wanted) => all(wanted).every(notEverything))
  if (!tells) {
    faults.push({
      path,
      message: telling
        ? `This rule does not say whose it is: others whom ${name} knows could join. One of ${Object.keys(telling).join(', ')} must be written out.`
        : 'This rule lets in everybody whom the issuer knows.',
      fix: `For example: ${exampleOf(name)}.`,
    })
  }
  return faults
}

function lifeFaults(text: string, part: 'ttl' | 'longest'): SpecFault[] {
  try {
    const ms = parseDuration(text)
    if (ms >= TTL.shortestMs && ms <= TTL.longestMs) return []
    return [{ path: [part], message: `\`${part}\` is between 30s and 12h.` }]
  } catch (error) {
    if (!(error instanceof ChaperoneError)) throw error
    return [{ path: [part], message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) }]
  }
}
