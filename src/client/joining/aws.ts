import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto'
import { STATEMENT_HEADER, STS_BODY, STS_TYPE, stsHost } from '../../identity/joining/aws.ts'
import { lacking, type Obtaining, type Present } from './obtain.ts'
import { statementOf } from './signing.ts'

/** The hash that the signer of AWS is handed. */
class Sha256 {
  #hash: Hash | Hmac
  readonly #secret: string | Uint8Array | undefined

  constructor(secret?: unknown) {
    this.#secret = secret as string | Uint8Array | undefined
    this.#hash = this.#fresh()
  }
  #fresh = () => (this.#secret === undefined ? createHash('sha256') : createHmac('sha256', this.#secret))
  update(data: unknown) {
    this.#hash.update(data as string | Uint8Array)
  }
  async digest() {
    return new Uint8Array(this.#hash.digest())
  }
  reset() {
    this.#hash = this.#fresh()
  }
}

/**
 * Signs GetCallerIdentity for whoever this process is at AWS (environment, container, instance, profile: AWS's own default
 * chain) and hands the signed question to Chaperone, which asks it. The secret key stays here; what was signed asks nothing else.
 */
export const presentAws: Present = async (ask, show) => {
  const env = ask.env ?? process.env
  const region = ask.region ?? env.AWS_REGION ?? env.AWS_DEFAULT_REGION
  if (!region) throw lacking('Which region of AWS?', 'Say --region REGION, or set AWS_REGION.')
  const statement = Buffer.from(JSON.stringify(await statementOf(ask))).toString('base64url')
  const signed = await sign({ region, statement }, ask)
  return await show({ region, statement, ...signed })
}

async function sign({ region, statement }: { readonly region: string; readonly statement: string }, ask: Obtaining) {
  const [{ SignatureV4 }, { fromNodeProviderChain }] = await Promise.all([import('@smithy/signature-v4'), import('@aws-sdk/credential-providers')])
  const signer = new SignatureV4({
    service: 'sts',
    region,
    credentials: credentialsOf(ask) ?? fromNodeProviderChain(),
    sha256: Sha256 as never,
    applyChecksum: false,
  })
  const host = stsHost(region)
  let headers: Readonly<Record<string, string>>
  try {
    ;({ headers } = await signer.sign({
      method: 'POST',
      protocol: 'https:',
      hostname: host,
      path: '/',
      query: {},
      headers: { host, 'content-type': STS_TYPE, accept: 'application/json', [STATEMENT_HEADER]: statement },
      body: STS_BODY,
    }))
  } catch (error) {
    throw lacking(
      `This machine has no credentials of AWS (${error instanceof Error ? error.message.slice(0, 200) : 'none found'}).`,
      'Give the instance, task or function a role, or set AWS_PROFILE.',
    )
  }
  const named = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  const token = named.get('x-amz-security-token')
  return { authorization: named.get('authorization'), date: named.get('x-amz-date'), ...(token === undefined ? {} : { security_token: token }) }
}

/** Of an environment that is not that of this process; AWS's own chain reads the process. */
function credentialsOf({ env }: Obtaining) {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = env ?? {}
  if (!accessKeyId || !secretAccessKey) return undefined
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}
