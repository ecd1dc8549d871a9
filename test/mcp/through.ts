import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Invitation } from '../../src/api/contract.ts'
import { issuerOf, keepCredential } from '../../src/client/credential.ts'
import { openLoopback } from '../../src/client/loopback.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { enrol } from '../../src/demo/person.ts'
import { startServer } from '../../src/server/start.ts'

/** A whole Chaperone on real sockets, a person in it who may do everything, and anonymous endpoints that act as him. */
export interface Through {
  apply(yaml: string): Promise<void>
  /** A loopback endpoint for this server, as `chaperone mcp proxy` opens it, in a session of its own: clients leave MCP sessions open, and one session may have only so many. */
  open(server: string): Promise<Endpoint>
  /** `$CHAPERONE_HOME` of the person, for the shim */
  readonly home: string
  close(): Promise<void>
}

export interface Endpoint {
  readonly url: string
  close(): Promise<void>
}

export const EVERYTHING = `kind: user
name: boris
spec: { roles: [everything] }
---
kind: role
name: everything
spec:
  allow:
    - { mcp: any, can: any }
`

export async function openThrough(documents: string): Promise<Through> {
  const undo: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const dir = await mkdtemp(join(tmpdir(), 'chaperone-through-'))
    undo.push(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
    const server = await startServer({
      dataDir: join(dir, 'data'),
      listen: '127.0.0.1:0',
      webListen: '127.0.0.1:0',
      postgresListen: '127.0.0.1:0',
      admin: 'dana',
      logLevel: 'silent',
    })
    undo.push(() => server.stop('done'))
    const dana = await enrol('dana', server.invitation!.line, join(dir, 'dana'))
    undo.push(async () => dana.api.close())
    const apply = async (text: string) => {
      await dana.freshFactor()
      await dana.api.call('POST', '/v1/apply', { files: [{ path: 'through.yaml', text }] })
    }
    await apply(documents)
    const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'boris' })
    const boris = await enrol('boris', invitation, join(dir, 'boris'))
    undo.push(async () => boris.api.close())
    return {
      apply,
      home: boris.home,
      async open(name) {
        // The suite calls as a page of its own host would; so its port must be known beforehand.
        const port = await freePort()
        const origins = ['localhost', '127.0.0.1'].map((host) => `http://${host}:${port}`)
        const issuer = issuerOf(boris.profile, { client: 'mcp-proxy' })
        const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
        const loopback = await openLoopback({ server: name, keeper, port, origins })
        let closed = false
        const end = async () => {
          if (closed) return
          closed = true
          await loopback.close()
          await keeper.close()
        }
        undo.push(end)
        return { url: loopback.url, close: end }
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
