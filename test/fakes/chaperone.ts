import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Held, Keeper } from '../../src/client/credential.ts'
import { ChaperoneError } from '../../src/errors.ts'
import { type FakeAuthority, fakeAuthority } from './authority.ts'

export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  readonly certificate: string
}

/** A stand-in for the mTLS listener: real TLS, answers by the test. */
export interface FakeChaperone {
  readonly authority: FakeAuthority
  readonly address: string
  readonly seen: Seen[]
  /** set by the test */
  answer: (seen: Seen, response: ServerResponse) => void | Promise<void>
  /** a credential that the fake accepts, as the keeper would hold it */
  keeper(): Promise<Keeper & { renew(): Promise<void>; end(error: ChaperoneError): void }>
  cutConnections(): void
  close(): Promise<void>
}

export async function fakeChaperone(): Promise<FakeChaperone> {
  const authority = await fakeAuthority('servers')
  const identities = await fakeAuthority('identities')
  const own = await authority.issue(['127.0.0.1'])
  const seen: Seen[] = []
  const options = {
    key: own.key,
    cert: own.chain,
    ca: identities.certificate,
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3' as const,
  }
  const server = createServer(options, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const socket = request.socket as TLSSocket
      const certificate = socket.authorized ? (socket.getPeerX509Certificate()?.serialNumber ?? '') : ''
      const one = {
        method: request.method ?? '',
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
        certificate,
      }
      seen.push(one)
      void fake.answer(one, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`

  const held = async (): Promise<Held> => {
    const { key, certificate } = await identities.issue()
    const notAfter = Date.now() + 60_000
    const identity = { id: 'agt_1', name: 'boris/x', kind: 'agent' }
    const bundles = { trustDomain: 'test', identity: identities.certificate, server: authority.certificate }
    const listeners = { data: address, web: address, postgres: address }
    return {
      key,
      certificate,
      notAfter,
      profile: {
        v: 1,
        address,
        trustDomain: 'test',
        identity,
        session: 'ses_1',
        key,
        certificate,
        notAfter,
        sessionUntil: notAfter,
        bundles,
        listeners,
      },
    }
  }

  const fake: FakeChaperone = {
    authority,
    address,
    seen,
    answer: (_, response) => void response.writeHead(404).end(),
    async keeper() {
      let now = await held()
      const over = new AbortController()
      const watchers: ((held: Held) => void)[] = []
      return {
        current: () => now,
        onRenew: (see) => void watchers.push(see),
        signal: over.signal,
        whyCut: async () => (over.signal.aborted ? (over.signal.reason as ChaperoneError) : undefined),
        close: async () => over.abort(new ChaperoneError('session_ended', 'Closed.')),
        async renew() {
          now = await held()
          for (const see of watchers) see(now)
        },
        end: (error) => over.abort(error),
      }
    },
    cutConnections: () => server.closeAllConnections(),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return fake
}
