import { fileURLToPath } from 'node:url'
import type { World } from './world.ts'

/** Prints how to connect to the demo now, and returns when the person has had enough (Ctrl-C). */
export async function stayUp({ boris, dana, server }: World, say: (text: string) => void): Promise<void> {
  const chaperone = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
  const home = `CHAPERONE_HOME='${boris.home}'`
  const entry = (name: string) =>
    JSON.stringify({
      command: process.execPath,
      args: [chaperone, 'mcp', 'connect', name, '--client', 'boris-ai'],
      env: { CHAPERONE_HOME: boris.home },
    })
  say(`
Chaperone stays up (data and MCP ${server.addresses.data}, PostgreSQL ${server.addresses.postgres}). Try it yourself:

  Claude Code   claude mcp add-json files '${entry('files')}'
  Cursor        put into .cursor/mcp.json:
                {"mcpServers":{"files":${entry('files')}}}
  psql          ${home} '${process.execPath}' '${chaperone}' db connect topsecret --database topsecret --user analyst_ro
                then: SELECT * FROM customers LIMIT 3;   and: DROP TABLE customers;
  the record    CHAPERONE_HOME='${dana.home}' '${process.execPath}' '${chaperone}' audit tail

Ctrl-C ends it and removes everything that it made.`)
  await new Promise<void>((done) => {
    process.once('SIGINT', done)
    process.once('SIGTERM', done)
  })
  say('\nStopping ...')
}
