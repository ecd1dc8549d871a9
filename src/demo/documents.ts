/** What dana applies: two MCP servers, one database, two people, one agent, and what each may do. */
export interface DemoPlaces {
  readonly node: string
  readonly filesystemServer: string
  readonly postgresServer: string
  readonly reports: string
  /** where the agent may leave things, once boris has said so */
  readonly outbox: string
  readonly databaseAddress: string
  /** Database URL of the MCP server's own database user, without its password (that is in the vault). */
  readonly mcpDatabaseUrl: string
  /** `none` where this machine can isolate nothing: then it is said, recorded and shown. */
  readonly isolation: 'user' | 'bubblewrap' | 'none'
}

const quoted = (text: string) => JSON.stringify(text)

export function resources(places: DemoPlaces): string {
  return `# What can be reached.
kind: mcp
name: files
labels: { env: demo }
spec:
  command: [${quoted(places.node)}, ${quoted(places.filesystemServer)}, ${quoted(places.reports)}, ${quoted(places.outbox)}]
  read: [${quoted(places.reports)}]
  write: [${quoted(places.outbox)}]
  isolation: ${places.isolation}
  trusted: true            # its annotations were read and found true
---
kind: mcp
name: topsecret-sql
labels: { env: demo }
spec:
  command: [${quoted(places.node)}, ${quoted(places.postgresServer)}, ${quoted(places.mcpDatabaseUrl)}]
  env: { PGPASSWORD: { secret: topsecret-sql } }   # sealed; no agent ever sees it
  isolation: ${places.isolation}
---
kind: postgres
name: topsecret
labels: { env: demo }
spec:
  address: ${quoted(places.databaseAddress)}
  databases: [topsecret]
`
}

export const PEOPLE = `# Who there is. dana was invited by the first start.
kind: user
name: dana
spec: { roles: [admin, auditor, dba] }
---
kind: user
name: boris
spec: { roles: [developer], traits: { team: reporting } }
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [report-agent] }
`

export const ROLES = `# Who may do what.
kind: role
name: developer
spec:
  allow:
    - mcp: { labels: { env: demo } }
      tools: any
    - postgres: topsecret
      databases: [topsecret]
      as: analyst_ro
      can: read
    - postgres: topsecret
      databases: [topsecret]
      as: analyst_rw
      statements: [select, update]
---
kind: role
name: dba
spec: {}                   # whom rules name as approvers
---
kind: role
name: report-agent
spec:
  allow:
    - mcp: files
      tools: ["read_*", "list_*"]
    - mcp: topsecret-sql
      tools: [query]
      args: { sql: ["SELECT id, name FROM customers ORDER BY id", "SELECT count(*) FROM customers"] }   # these, to the letter
    - postgres: topsecret
      databases: [topsecret]
      as: analyst_ro
      can: read
      tables: ["public.*"]
  ask:
    - postgres: topsecret
      databases: [topsecret]
      as: analyst_rw
      statements: [update]
      tables: [public.customers]
      approvers: { role: dba }
    - mcp: files
      tools: [create_directory]
      approvers: owner     # boris confirms
`

/** For the test that proves that the steps can fail: everybody may do everything, as in a world without Chaperone. */
export const ROLES_WITHOUT_PROTECTION = ['developer', 'report-agent']
  .map(
    (name) => `kind: role
name: ${name}
spec:
  allow:
    - { mcp: any, tools: any }
    - { postgres: any, databases: any, as: any, can: any }
`,
  )
  .join('---\n')
  .concat('---\nkind: role\nname: dba\nspec: {}\n')
