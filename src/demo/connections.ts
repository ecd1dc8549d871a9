import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import pg from 'pg'
import type { Keeper } from '../client/credential.ts'
import { type DatabaseDoor, openDatabaseDoor } from '../client/database.ts'
import type { Person } from './person.ts'

/** How this very program is started again, whether it runs from source or from the package. */
const command = () =>
  [process.execPath, fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../cli/main.ts' : '../cli/main.js', import.meta.url))] as const

/** As today: the client starts the MCP server itself and gives it whatever it needs. */
export async function connectDirectly(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Client> {
  const [program, ...args] = argv
  return connected(new StdioClientTransport({ command: program!, args, env: { ...env }, stderr: 'ignore' }))
}

/** As any desktop client does it: `chaperone mcp connect NAME`, over stdio. */
export async function connectThroughShim(person: Person, server: string, agent: string, purpose: string): Promise<Client> {
  const [node, main] = command()
  const args = [main, 'mcp', 'connect', server, '--client', agent, '--purpose', purpose]
  return connected(
    new StdioClientTransport({ command: node, args, env: { CHAPERONE_HOME: person.home, PATH: process.env.PATH ?? '' }, stderr: 'ignore' }),
  )
}

async function connected(transport: StdioClientTransport): Promise<Client> {
  const client = new Client({ name: 'demo-agent', version: '1.0.0' })
  await client.connect(transport)
  return client
}

/** A real PostgreSQL client at the end of `db proxy`, with a credential that does not renew. */
export async function databaseDoor(keeper: Keeper, resource: string, database: string, user: string): Promise<DatabaseDoor> {
  return openDatabaseDoor({ resource, database, user, keeper, at: { port: 0 } })
}

export async function connectDatabase(door: DatabaseDoor, user = 'analyst_ro'): Promise<pg.Client> {
  const client = new pg.Client({ host: door.host, port: door.port, user, database: 'topsecret', password: door.password, ssl: false })
  client.on('error', () => {}) // being cut is part of the story; each step sees it by its own query
  await client.connect()
  return client
}

/** When the connection ended, in ms by the given clock. (`events.once` would reject: being cut is an error to the driver.) */
export const endOf = (client: pg.Client, now: () => number): Promise<number> => new Promise((done) => client.once('end', () => done(now())))
