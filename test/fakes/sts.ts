import { createHash, createHmac } from 'node:crypto'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { OpenFetch } from '../../src/identity/joining/method.ts'
import { fakeAuthority } from './authority.ts'

/** STS of AWS, over real TLS under its real name: it verifies signatures (version 4) with the secrets it knows, and says who that is. */
export interface FakeSts {
  readonly ca: string
  /** where it really is, for a proxy that leads its name here */
  readonly port: number
  /** What Chaperone would be given: it resolves the names of STS to here, and nothing else. */
  readonly open: OpenFetch
  readonly asked: { readonly host: string; readonly path: string; readonly body: string; readonly headers: Readonly<Record<string, unknown>> }[]
  close(): Promise<void>
}

export interface AwsPrincipal {
  readonly secret: string
  readonly token?: string
  readonly account: string
  readonly arn: string
  readonly userId: string
}

const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

export async function fakeSts(principals: Readonly<Record<string, AwsPrincipal>>, region = 'eu-central-1'): Promise<FakeSts> {
  const name = `sts.${region}.amazonaws.com`
  const authority = await fakeAuthority('amazon')
  const own = await authority.issue([name])
  const asked: FakeSts['asked'] = []
  const server = createServer({ key: own.key, cert: own.chain }, (incoming, response) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const { headers } = incoming
      asked.push({ host: headers.host ?? '', path: incoming.url ?? '', body, headers })
      const caller = verify(incoming.method ?? '', incoming.url ?? '', headers as Record<string, string>, body)
      if (!caller) return void response.writeHead(403, { 'content-type': 'application/json' }).end('{"Error":{"Code":"SignatureDoesNotMatch"}}')
      const { account: Account, arn: Arn, userId: UserId } = caller
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({ GetCallerIdentityResponse: { GetCallerIdentityResult: { Account, Arn, UserId }, ResponseMetadata: { RequestId: 'r' } } }),
      )
    })
  })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as AddressInfo

  /** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
  function verify(method: string, path: string, headers: Readonly<Record<string, string>>, body: string): AwsPrincipal | undefined {
    const found = /Credential=([^/]+)\/(\d+)\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)/.exec(
      headers.authorization ?? '',
    )
    const [, key = '', day = '', where = '', service = '', names = '', signature = ''] = found ?? []
    const principal = principals[key]
    if (!principal || where !== region || service !== 'sts' || (principal.token ?? '') !== (headers['x-amz-security-token'] ?? '')) return undefined
    const canonical = [method, path, '', ...names.split(';').map((one) => `${one}:${(headers[one] ?? '').trim()}`), '', names, sha256(body)].join(
      '\n',
    )
    const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], `${day}/${where}/${service}/aws4_request`, sha256(canonical)].join('\n')
    const signing = [day, where, service, 'aws4_request'].reduce((last: string | Buffer, part) => hmac(last, part), `AWS4${principal.secret}`)
    return hmac(signing, text).toString('hex') === signature ? principal : undefined
  }

  return {
    ca: authority.certificate,
    port,
    asked,
    open: () => (url, init) =>
      new Promise((done, fail) => {
        const to = new URL(url)
        const out = request(
          {
            host: to.hostname,
            port,
            path: to.pathname,
            method: init?.method ?? 'GET',
            headers: init?.headers as Record<string, string>,
            ca: authority.certificate,
            servername: to.hostname,
            agent: false,
            lookup: (host, options, found) => {
              if (host !== name) return found(new Error(`no such name ${host}`), '')
              if (options.all) found(null, [{ address: '127.0.0.1', family: 4 }])
              else found(null, '127.0.0.1', 4)
            },
          },
          (answer) => {
            const chunks: Buffer[] = []
            answer.on('data', (chunk: Buffer) => chunks.push(chunk))
            answer.on('end', () => done(new Response(Buffer.concat(chunks), { status: answer.statusCode ?? 500 })))
          },
        )
        out.on('error', fail)
        out.end(init?.body as string)
      }),
    async close() {
      const closed = new Promise((done) => server.close(done))
      server.closeAllConnections()
      await closed
    },
  }
}
