import { z } from 'zod'
import { EFFECTS } from '../policy/types.ts'

const value = z.union([z.string(), z.strictObject({ secret: z.string().describe('name of a sealed secret in the vault') })])

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
    trusted: z.boolean().default(false).describe("believe the server's own annotations of its tools"),
    tools: z
      .record(z.string(), z.strictObject({ effects: z.array(z.enum(EFFECTS)).min(1) }))
      .default({})
      .describe('effects confirmed by an administrator; they win over annotations'),
    ca: z.string().optional().describe('http: PEM of the authority that signed the server certificate'),
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
      return
    }
    if (Object.keys(spec.headers).length > 0) idle('headers', 'a server with a `command` has none')
    if (spec.ca !== undefined) idle('ca', 'a server with a `command` has no TLS')
    if (!spec.network && (spec.isolation ?? 'bubblewrap') !== 'bubblewrap')
      idle('network', 'only `isolation: bubblewrap` can keep a server from the network')
  })

export type McpServerSpec = z.infer<typeof mcpServerSpec>
