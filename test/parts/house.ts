import { createHash, generateKeyPairSync } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { join } from 'node:path'
import type { Applied, Invitation } from '../../src/api/contract.ts'
import { readCsr } from '../../src/ca/csr.ts'
import { makeCsr } from '../../src/ca/make-csr.ts'
import { type Api, openApi } from '../../src/client/api.ts'
import type { Profile } from '../../src/client/profile.ts'
import { beginEnrolment, join as joinAs } from '../../src/client/sign-in.ts'
import { type RunningServer, startServer } from '../../src/server/start.ts'
import { fromBase32, stepAt, totpCode } from '../../src/signin/totp.ts'
import { folder } from './process.ts'

/** A server in this process on real sockets, and people who have signed in to it for real. */
export interface House {
  readonly server: RunningServer
  readonly dir: string
  /** the first administrator */
  readonly dana: Member
  apply(yaml: string, as?: Member): Promise<Applied>
  /** A person who has a document already. */
  enrol(name: string): Promise<Member>
  /** An agent by a join token. Whoever makes that cannot decide about what the agent asks for; dana, unless told otherwise. */
  join(name: string, ttl?: string, by?: Member): Promise<Member>
}

export interface Member {
  readonly profile: Profile
  readonly api: Api
  /** the next code of the authenticator app; undefined for agents */
  readonly code: () => string
}

interface Test {
  after(work: () => Promise<void>): void
}

export async function house(test: Test, more: Partial<Parameters<typeof startServer>[0]> = {}): Promise<House> {
  const dir = await folder(test)
  const server = await startServer({
    dataDir: join(dir, 'data'),
    listen: '127.0.0.1:0',
    webListen: '127.0.0.1:0',
    postgresListen: '127.0.0.1:0',
    admin: 'dana',
    logLevel: 'silent',
    ...more,
  })
  const members: Member[] = []
  test.after(async () => {
    for (const { api } of members) api.close()
    await server.stop('test over')
  })
  const member = (profile: Profile, code: () => string): Member => {
    const one = { profile, code, api: openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile }) }
    members.push(one)
    return one
  }
  const enrolled = async (line: string): Promise<Member> => {
    const enrolment = await beginEnrolment(line)
    const secret = fromBase32(enrolment.offer.totp.secret)!
    // A code works once, so each next one is of a later step.
    let used = 0
    const code = () => {
      used = Math.max(used + 1, stepAt(Date.now()))
      return totpCode(secret, used)
    }
    return member(await enrolment.finish(code()).finally(() => enrolment.close()), code)
  }
  const dana = await enrolled(server.invitation!.line)
  return {
    server,
    dir,
    dana,
    apply: (text, as = dana) => as.api.call<Applied>('POST', '/v1/apply', { files: [{ path: 'test.yaml', text }] }),
    enrol: async (name) => enrolled((await dana.api.call<Invitation>('POST', '/v1/invitations', { name })).invitation),
    join: async (name, ttl, by = dana) =>
      member(
        await joinAs((await by.api.call<Invitation>('POST', '/v1/invitations', { name })).invitation, ttl === undefined ? {} : { ttl }),
        () => '',
      ),
  }
}

/** A key pair and the request that carries its public half. */
export function keyAndCsr(): { readonly key: string; readonly csr: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, csr: makeCsr(privateKey, publicKey) }
}

/** base64url of the sha256 of the key of a request, as a proof names it. */
export const spkiHashOf = (csr: string): string => createHash('sha256').update(readCsr(csr).spki).digest('base64url')

export interface Answered {
  readonly status: number
  readonly text: string
  readonly headers: IncomingMessage['headers']
}

/** One request on a connection of its own; the server's certificate is not looked at. */
export function ask(
  address: string,
  path: string,
  more: {
    readonly method?: string
    readonly headers?: Record<string, string | string[]>
    readonly body?: string | Buffer
    readonly key?: string
    readonly cert?: string
    /** of this machine, from which it comes */
    readonly localAddress?: string
  } = {},
): Promise<Answered> {
  const at = address.lastIndexOf(':')
  return new Promise((done, fail) => {
    const out = request(
      {
        host: address.slice(0, at),
        port: address.slice(at + 1),
        path,
        method: more.method ?? 'GET',
        headers: more.headers ?? {},
        rejectUnauthorized: false,
        agent: false,
        ...(more.key === undefined ? {} : { key: more.key }),
        ...(more.cert === undefined ? {} : { cert: more.cert }),
        ...(more.localAddress === undefined ? {} : { localAddress: more.localAddress }),
      },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', fail)
        answer.on('end', () => done({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString(), headers: answer.headers }))
      },
    )
    out.on('error', fail)
    out.end(more.body)
  })
}
