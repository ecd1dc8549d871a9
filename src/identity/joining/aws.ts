import { createHash } from 'node:crypto'
import { z } from 'zod'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Claims, JoinContext, JoinMethod } from './method.ts'
import { type JoinRefused, unproven } from './refused.ts'
import { statement } from './signed-proof.ts'
import { afterAccount, whole } from './telling.ts'
import { placeFaults } from './workload-token.ts'

/** The one request that is ever sent on, to the letter: who signed it can only be asked who he is. */
export const STS_BODY = 'Action=GetCallerIdentity&Version=2011-06-15'
export const STS_TYPE = 'application/x-www-form-urlencoded; charset=utf-8'
/** The header in which the signer says for whom he signs. A proof without it, signed for somebody else, is no proof here. */
export const STATEMENT_HEADER = 'x-chaperone-join'

const REGION = /^[a-z]{2}(?:-[a-z]{2,12}){1,3}-\d{1,2}$/
const header = (longest: number) =>
  z
    .string()
    .max(longest)
    .regex(/^[\x21-\x7e ]+$/)

export const awsSpec = z.strictObject({
  regions: z
    .array(z.string().regex(REGION, 'write a region such as eu-central-1'))
    .min(1)
    .max(32)
    .optional()
    .describe('the regions whose STS is asked; default: whichever the client names'),
  ca: z.string().max(65_536).optional().describe('PEM of the authority of an inspecting proxy on the way to STS, believed beside the public ones'),
})

const awsProof = z.strictObject({
  region: z.string().regex(REGION),
  authorization: header(4096),
  date: z.string().regex(/^\d{8}T\d{6}Z$/),
  security_token: header(8192).optional(),
  statement: header(4096),
})
export type AwsProof = z.infer<typeof awsProof>

/** `sts.<region>.amazonaws.com`; nothing of it comes from the client but a region of the right spelling. */
export const stsHost = (region: string): string => `sts.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=(?<key>[A-Z0-9]{16,128})\/(?<day>\d{8})\/(?<region>[a-z0-9-]+)\/sts\/aws4_request, ?SignedHeaders=(?<headers>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}$/

const identified = z.object({
  GetCallerIdentityResponse: z.object({
    GetCallerIdentityResult: z.object({
      Account: z.string().regex(/^\d{12}$/),
      Arn: z.string().max(2048),
      UserId: z.string().max(256),
    }),
  }),
})

/**
 * Whoever has credentials of AWS (an instance, a task, a function) signs the question who he is, and we ask STS in his name. The
 * secret never leaves him, STS vouches, and what he signed holds our nonce, so it is good for nothing else.
 */
export const aws: JoinMethod<z.infer<typeof awsSpec>, AwsProof> = {
  name: 'aws',
  spec: awsSpec.prefault({}),
  proof: awsProof,
  claims: ['account', 'arn', 'user_id', 'role', 'session', 'user'],
  // The name of a role is free in every other account.
  telling: { account: whole, arn: afterAccount, user_id: whole },
  provableAgain: true,
  faults: placeFaults,
  async prove(proof, spec, context) {
    // Until STS has said who it is, it is anybody.
    const refused = (why: string) => unproven(why, { document: context.document, method: 'aws' })
    if (spec.regions && !spec.regions.includes(proof.region)) throw refused(`the region ${proof.region} is not asked here`)
    const signature = AUTHORIZATION.exec(proof.authorization)?.groups
    if (!signature || signature.region !== proof.region || signature.day !== proof.date.slice(0, 8))
      throw refused('the request was not signed for STS in that region')
    const signed = new Set(signature.headers!.split(';'))
    for (const name of ['host', 'x-amz-date', STATEMENT_HEADER, ...(proof.security_token === undefined ? [] : ['x-amz-security-token'])])
      if (!signed.has(name)) throw refused(`the header \`${name}\` is not signed`)
    const once = await readStatement(proof.statement, context, refused)
    const { Account, Arn, UserId } = await askSts(proof, spec.ca, context, refused)
    return { subject: Arn, claims: claimsOf(Account, Arn, UserId), once }
  },
}

async function readStatement(text: string, context: JoinContext, refused: (why: string) => JoinRefused) {
  let said: z.infer<typeof statement>
  try {
    said = statement.parse(parseStrict(Buffer.from(text, 'base64url')).value)
  } catch {
    throw refused('what was signed cannot be read')
  }
  if (said.aud !== context.audience || !(await context.servers()).includes(said.ca)) throw refused('it was signed for another server')
  if (said.join !== context.document) throw refused('it was signed for another way to join')
  if (said.key !== createHash('sha256').update(context.spki).digest('base64url')) throw refused('it was signed for another key')
  const until = context.challenge(said.nonce)
  if (until === undefined) throw refused('it was signed too long ago, or not for this server')
  return { key: `nonce ${said.nonce}`, until }
}

async function askSts(proof: AwsProof, ca: string | undefined, context: JoinContext, refused: (why: string) => JoinRefused) {
  const host = stsHost(proof.region)
  const fetch = context.open({ name: 'STS', origin: new URL(`https://${host}`), ca, allowPrivate: false })
  let answer: Response
  try {
    answer = await fetch(`https://${host}/`, {
      method: 'POST',
      headers: {
        host,
        'content-type': STS_TYPE,
        accept: 'application/json',
        authorization: proof.authorization,
        'x-amz-date': proof.date,
        [STATEMENT_HEADER]: proof.statement,
        ...(proof.security_token === undefined ? {} : { 'x-amz-security-token': proof.security_token }),
      },
      body: STS_BODY,
    })
  } catch (cause) {
    const { message, detail = '' } = toChaperoneError(cause)
    throw new ChaperoneError('upstream_unavailable', 'This Chaperone cannot reach STS of AWS, so nobody can join by it now.', {
      fix: 'Try again in a minute, or sign for the STS of another region.',
      detail: `${host}: ${message} ${detail}`,
      cause,
    })
  }
  if (answer.status === 403 || answer.status === 400) throw refused(`AWS does not know who signed this: STS answered ${answer.status}`)
  if (answer.status !== 200) {
    throw new ChaperoneError('upstream_unavailable', 'STS of AWS cannot say who this is at the moment.', {
      detail: `${host}: status ${answer.status}`,
    })
  }
  const parsed = identified.safeParse(parseStrict(Buffer.from(await answer.arrayBuffer()), { maxBytes: 64 * 1024 }).value)
  if (!parsed.success) throw new ChaperoneError('upstream_unavailable', 'STS of AWS answered with what cannot be read.', { detail: host })
  return parsed.data.GetCallerIdentityResponse.GetCallerIdentityResult
}

/** `arn:aws:sts::123456789012:assumed-role/ROLE/SESSION`, `arn:aws:iam::123456789012:user/path/NAME` */
export function claimsOf(account: string, arn: string, userId: string): Claims {
  const assumed = /^arn:[a-z-]+:sts::\d{12}:assumed-role\/([^/]+)\/([^/]+)$/.exec(arn)
  const user = /^arn:[a-z-]+:iam::\d{12}:user\/(?:.*\/)?([^/]+)$/.exec(arn)
  return {
    account,
    arn,
    user_id: userId,
    ...(assumed ? { role: assumed[1]!, session: assumed[2]! } : {}),
    ...(user ? { user: user[1]! } : {}),
  }
}
