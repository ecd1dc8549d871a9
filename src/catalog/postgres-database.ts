import { z } from 'zod'

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
        .describe("PEM of the authority that signed the server certificate; default: Chaperone's own authority of this database"),
      name: z.string().optional().describe('the name in the server certificate; default: the host of `address`'),
    })
    .default({}),
  credential_ttl: z.string().default('5m').describe('life of the client certificate that Chaperone makes for each connection'),
})

export type PostgresDatabaseSpec = z.infer<typeof postgresDatabaseSpec>
