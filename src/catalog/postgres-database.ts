import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'

/** How much of the values in statements the record keeps. */
const RECORDED_VALUES = ['full', 'hashed', 'none'] as const

function isDuration(text: string): boolean {
  try {
    return parseDuration(text) > 0
  } catch {
    return false
  }
}

/** `kind: postgres`: a PostgreSQL server that identities may reach through Chaperone. */
export const postgresDatabaseSpec = z.strictObject({
  address: z
    .string()
    .regex(/^(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$/, 'write host:port')
    .describe('where the server listens'),
  databases: z.array(z.string().min(1)).min(1).describe('the databases that may be reached; nothing else is'),
  tls: z
    .strictObject({
      ca: z
        .string()
        .optional()
        .describe(
          "PEM of the authority that signed the server certificate, or `public` for those that browsers believe; default: Chaperone's own authority of this database",
        ),
      name: z.string().optional().describe('the name in the server certificate; default: the host of `address`'),
    })
    .default({}),
  users: z.array(z.string().min(1).max(63)).optional().describe('the database users that may be used at all; default: whatever a role names'),
  auth: z
    .union([
      z.literal('certificate'),
      z.strictObject({ aws_iam: z.strictObject({ region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'write a region such as eu-central-1') }) }),
      z.strictObject({ password: z.record(z.string().min(1).max(63), z.strictObject({ secret: z.string().min(1) })) }),
    ])
    .default('certificate')
    .describe(
      'how Chaperone logs in: a certificate of minutes, an AWS IAM token of minutes (RDS, Aurora), or a sealed password for each database user, which no client sees',
    ),
  functions: z
    .strictObject({ read: z.array(z.string().min(1)).default([]).describe('`schema.function`, or globs: reviewed, and only reading') })
    .default({ read: [] })
    .describe("functions of the database's own that somebody has looked into"),
  identity_settings: z
    .boolean()
    .default(true)
    .describe(
      'give `chaperone.identity`, `chaperone.chain`, `chaperone.session` and `chaperone.purpose` to the database, for row policies and its log',
    ),
  record: z
    .strictObject({
      parameters: z
        .enum(RECORDED_VALUES)
        .default('full')
        .describe(
          'the values in statements, as parameters or written into the text: kept as they are, as keyed hashes (equal values look equal), or not at all',
        ),
    })
    .default({ parameters: 'full' })
    .describe('what the record keeps of statements, allowed or refused'),
  mcp: z.boolean().default(true).describe('offer the tools `query`, `list_tables`, `describe_table` and `explain` over MCP as well'),
  limits: z
    .strictObject({
      connections: z.number().int().positive().max(10_000).default(200).describe('connections to the server at once, from all identities'),
      idle: z.string().optional().describe('a connection on which nothing happens for so long is closed'),
      idle_in_transaction: z.string().default('5m').describe('a transaction in which nothing happens for so long is ended'),
      lock_wait: z.string().optional().describe('a statement that waits longer for a lock fails'),
      statement: z.string().optional().describe('a statement that runs longer is cancelled, whatever the roles say'),
      approval_wait: z
        .string()
        .refine(isDuration, 'write a time such as 30s or 2m')
        .optional()
        .describe(
          'a statement about which a human is asked waits so long for the answer, 2m when nothing is said; then it is refused, and can be sent again',
        ),
    })
    .default({ connections: 200, idle_in_transaction: '5m' }),
  credential_ttl: z.string().default('5m').describe('life of the client certificate that Chaperone makes for each connection'),
})

export type PostgresDatabaseSpec = z.infer<typeof postgresDatabaseSpec>
