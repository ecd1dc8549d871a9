import { z } from 'zod'
import { parseByteSize } from '../encoding/byte-size.ts'
import { parseDuration } from '../encoding/duration.ts'
import type { ChaperoneError } from '../errors.ts'
import { EFFECTS } from '../policy/types.ts'
import { upstreamAuth } from './upstream-auth.ts'

const value = z.union([z.string(), z.strictObject({ secret: z.string().describe('name of a sealed secret in the vault') })])

/** The name of Chaperone's own MCP server, at which agents ask for themselves. No document can have it. */
export const OWN_SERVER = 'chaperone'

/** Text that `parse` reads: what cannot be kept is refused when it is written, not when the process starts. */
const readBy = (parse: (text: string) => number) =>
  z
    .string()
    .superRefine((text, context) => {
      try {
        parse(text)
      } catch (error) {
        const { message, fix } = error as ChaperoneError
        context.addIssue({ code: 'custom', message: [message, fix].filter(Boolean).join(' ') })
      }
    })
    .optional()

/** `kind: mcp`: an MCP server that identities may reach through Chaperone. */
export const mcpServerSpec = z
  .strictObject({
    command: z.array(z.string().min(1)).min(1).optional().describe('a stdio server: the program and its arguments, never a shell line'),
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('a Streamable HTTP server'),
    env: z
      .record(z.string(), value)
      .default({})
      .describe('stdio: the whole environment of the child; nothing else is inherited but PATH; HOME is a folder of its own'),
    headers: z.record(z.string(), value).default({}).describe('http: headers added upstream'),
    isolation: z
      .enum(['user', 'bubblewrap', 'none'])
      .optional()
      .describe('stdio: how the child is isolated; default: the strongest that this machine has, refused where there is none'),
    read: z.array(z.string()).default([]).describe('stdio: folders that the child may read (bubblewrap)'),
    write: z.array(z.string()).default([]).describe('stdio: folders that the child may write (bubblewrap)'),
    network: z.boolean().default(true).describe('stdio: whether the child may use the network (bubblewrap)'),
    share: z
      .enum(['session', 'identity', 'everybody'])
      .default('identity')
      .describe(
        'stdio: who shares one process: one MCP session, the sessions of one identity (default; a client that declares sampling, elicitation or roots has its own all the same), or, for a server that keeps nothing about its callers, everybody',
      ),
    limits: z
      .strictObject({
        memory: readBy(parseByteSize).describe('resident memory of the whole process tree, for example 512MiB; over it the server is ended'),
        lifetime: readBy(parseDuration).describe('a process older than this is replaced when nobody uses it, for example 12h'),
        idle: readBy(parseDuration).describe('a process that nobody used for so long is ended, for example 10m'),
        start: readBy(parseDuration).describe('from the start to the first answer, for example 60s'),
        output: readBy(parseByteSize).describe('bytes a minute that it may write to stdout and stderr, for example 64MiB'),
      })
      .default({})
      .describe('stdio: what one process may cost'),
    auth: upstreamAuth.optional().describe('http: what Chaperone shows the server: exactly one of `oauth`, `client_credentials`, `identity`'),
    trusted: z.boolean().default(false).describe("believe the server's own annotations of its tools"),
    tools: z
      .record(z.string(), z.strictObject({ effects: z.array(z.enum(EFFECTS)).min(1) }))
      .default({})
      .describe('effects confirmed by an administrator; they win over annotations'),
    ca: z.string().optional().describe('http: PEM of the authority that signed the server certificate'),
    description: z.string().min(1).max(100).optional().describe('what it is for, in one line, for people who look for it'),
    registry: z.literal('public').optional().describe('the registry API shows it to everybody, without a sign-in; who may use it is up to roles'),
  })
  .refine((spec) => (spec.command === undefined) !== (spec.url === undefined), { message: 'write exactly one of `command` and `url`' })
  // What would change nothing is refused: somebody believes that it protects (peers R90).
  .superRefine((spec, context) => {
    const idle = (name: string, why: string) => context.addIssue({ code: 'custom', path: [name], message: `\`${name}\` does nothing here: ${why}` })
    if (spec.url !== undefined) {
      for (const name of ['env', 'isolation', 'read', 'write'] as const) {
        if (spec[name] !== undefined && Object.keys(spec[name]).length > 0) idle(name, 'a server with a `url` is not started by Chaperone')
      }
      if (!spec.network) idle('network', 'a server with a `url` is not started by Chaperone')
      if (Object.keys(spec.limits).length > 0) idle('limits', 'a server with a `url` is not started by Chaperone')
      if (spec.share !== 'identity') idle('share', 'a server with a `url` is not started by Chaperone')
      return
    }
    if (Object.keys(spec.headers).length > 0) idle('headers', 'a server with a `command` has none')
    if (spec.auth !== undefined) idle('auth', 'a server with a `command` takes its credentials from `env`')
    if (spec.ca !== undefined) idle('ca', 'a server with a `command` has no TLS')
    if (!spec.network && (spec.isolation ?? 'bubblewrap') !== 'bubblewrap')
      idle('network', 'only `isolation: bubblewrap` can keep a server from the network')
  })

export type McpServerSpec = z.infer<typeof mcpServerSpec>
