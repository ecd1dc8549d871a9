import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { type AwsPrincipal, fakeSts } from '../../../test/fakes/sts.ts'
import { presentAws } from '../../client/joining/aws.ts'
import type { Obtaining } from '../../client/joining/obtain.ts'
import { ChaperoneError } from '../../errors.ts'
import { type AwsProof, aws, claimsOf, stsHost } from './aws.ts'
import { makeChallenge, readChallenge } from './challenge.ts'
import { joinContext, NOW, refusedFor as refused, SERVER } from './joining.fixture.ts'

const ROLE: AwsPrincipal = {
  secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  token: 'session-token',
  account: '123456789012',
  arn: 'arn:aws:sts::123456789012:assumed-role/reporter/i-0abc',
  userId: 'AROAEXAMPLE:i-0abc',
}
const ENV = {
  AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
  AWS_SECRET_ACCESS_KEY: ROLE.secret,
  AWS_SESSION_TOKEN: 'session-token',
  AWS_REGION: 'eu-central-1',
}
const key = Buffer.alloc(32, 1)

async function place(t: TestContext) {
  const sts = await fakeSts({ AKIAIOSFODNN7EXAMPLE: ROLE })
  t.after(() => sts.close())
  const context = joinContext({ open: sts.open, challenge: (nonce) => readChallenge(key, nonce, NOW) })
  const proof = async (over: Partial<Obtaining> = {}): Promise<AwsProof> => {
    let shown: unknown
    const ask: Obtaining = {
      env: ENV,
      line: { address: 'x:1', fingerprint: SERVER, audience: 'https://test' },
      as: 'ci',
      csrKey: createHash('sha256').update(context.spki).digest('base64url'),
      challenge: async () => makeChallenge(key, NOW).nonce,
      ...over,
    }
    await presentAws(ask, async (one) => {
      shown = one
      return undefined as never
    })
    return aws.proof.parse(shown)
  }
  const line = { address: 'x:1', fingerprint: SERVER, audience: 'https://test' }
  return { sts, context, proof, line, prove: (one: AwsProof, spec = {}) => aws.prove(one, aws.spec.parse(spec), context) }
}

test('who signed for us is who STS says he is; the secret key never comes here', async (t) => {
  const { sts, proof, prove } = await place(t)
  const one = await proof()
  assert.doesNotMatch(JSON.stringify(one), /wJalr/)
  const { subject, claims, once } = await prove(one)
  assert.equal(subject, ROLE.arn)
  assert.deepEqual(claims, { account: ROLE.account, arn: ROLE.arn, user_id: ROLE.userId, role: 'reporter', session: 'i-0abc' })
  assert.match(once!.key, /^nonce /)
  const [asked] = sts.asked
  assert.equal(asked!.host, 'sts.eu-central-1.amazonaws.com')
  assert.equal(asked!.body, 'Action=GetCallerIdentity&Version=2011-06-15')
})

test('rule 1: a forged signature is refused by STS, and so here', async (t) => {
  const { proof, prove } = await place(t)
  await assert.rejects(prove(await proof({ env: { ...ENV, AWS_SECRET_ACCESS_KEY: 'guessed' } })), refused(/does not know who signed/))
  const good = await proof()
  await assert.rejects(
    prove({ ...good, authorization: good.authorization.replace(/.$/, (last) => (last === '0' ? '1' : '0')) }),
    refused(/does not know/),
  )
})

test('rule 1: what was signed for another server, another document, another key or another moment is refused before STS is asked', async (t) => {
  const { sts, proof, prove, line } = await place(t)
  await assert.rejects(prove(await proof({ line: { ...line, audience: 'https://other' } })), refused(/another server/))
  await assert.rejects(prove(await proof({ line: { ...line, fingerprint: 'b'.repeat(64) } })), refused(/another server/))
  await assert.rejects(prove(await proof({ as: 'other' })), refused(/another way to join/))
  await assert.rejects(prove(await proof({ csrKey: 'x'.repeat(43) })), refused(/another key/))
  await assert.rejects(prove(await proof({ challenge: async () => makeChallenge(key, NOW - 121_000).nonce })), refused(/too long ago/))
  await assert.rejects(prove(await proof({ challenge: async () => makeChallenge(Buffer.alloc(32, 2), NOW).nonce })), refused(/not for this server/))
  assert.deepEqual(sts.asked, [])
})

test('rule 1: a statement that was put beside a signature of something else is refused by STS', async (t) => {
  const { proof, prove, line } = await place(t)
  const stolen = await proof({ line: { ...line, audience: 'https://other' } })
  await assert.rejects(prove({ ...stolen, statement: (await proof()).statement }), refused(/does not know who signed/))
})

test('rule 1: a request that does not sign the statement, the host or the date is refused', async (t) => {
  const { sts, proof, prove } = await place(t)
  const good = await proof()
  for (const name of ['x-chaperone-join', 'host', 'x-amz-date', 'x-amz-security-token']) {
    const authorization = good.authorization.replace(new RegExp(`(?<=[=;])${name};?`), '').replace(/;,/, ',')
    await assert.rejects(prove({ ...good, authorization }), refused(/is not signed/), name)
  }
  assert.deepEqual(sts.asked, [])
})

test('rule 1: nothing of where we ask comes from the client but a region of the right spelling', () => {
  const base = { authorization: 'x', date: '20261123T100000Z', statement: 'x' }
  for (const region of ['eu-central-1.evil.example', 'eu-central-1/', 'evil', '', 'eu-central-1\n', '../x', 'EU-CENTRAL-1', 'a'.repeat(100)])
    assert.equal(aws.proof.safeParse({ ...base, region }).success, false, region)
  for (const bad of ['x\r\nhost: evil', 'ü', ''])
    assert.equal(aws.proof.safeParse({ ...base, region: 'eu-central-1', authorization: bad }).success, false)
  assert.equal(stsHost('cn-north-1'), 'sts.cn-north-1.amazonaws.com.cn')
})

test('a signature for another service or region is not for STS', async (t) => {
  const { proof, prove, sts } = await place(t)
  const good = await proof()
  await assert.rejects(prove({ ...good, region: 'eu-west-1' }), refused(/not signed for STS in that region/))
  await assert.rejects(prove({ ...good, authorization: good.authorization.replace('/sts/', '/s3/') }), refused(/not signed for STS/))
  await assert.rejects(prove(good, { regions: ['us-east-1'] }), refused(/not asked here/))
  assert.deepEqual(sts.asked, [])
})

test('rule 1: only a signature of the very day, for a region that is asked here, goes to STS', async (t) => {
  const { proof, prove, sts } = await place(t)
  const good = await proof()
  await assert.rejects(prove({ ...good, date: good.date.replace(/^\d{8}/, '20200101') }), refused(/not signed for STS/))
  assert.deepEqual(sts.asked, [])
  assert.equal((await prove(good, { regions: ['us-east-1', 'eu-central-1'] })).subject, ROLE.arn)
  const fits = (more: Partial<AwsProof>) => aws.proof.safeParse({ ...good, ...more }).success
  for (const [most, name] of [
    [4096, 'authorization'],
    [4096, 'statement'],
    [8192, 'security_token'],
  ] as const)
    assert.deepEqual([fits({ [name]: 'x'.repeat(most) }), fits({ [name]: 'x'.repeat(most + 1) }), fits({ [name]: '' })], [true, false, false], name)
  for (const date of ['20261123T100000Z\r\nx: y', '2026-11-23', '']) assert.equal(fits({ date }), false, date)
})

test('rule 1: what STS says counts only as a whole answer; that it knows nobody is no fault of it', async (t) => {
  const { proof, context } = await place(t)
  const said = { Account: '123456789012', Arn: 'arn:aws:iam::123456789012:user/x', UserId: 'AIDA' }
  const answer = (result: object) => ({ GetCallerIdentityResponse: { GetCallerIdentityResult: { ...said, ...result } } })
  const prove = async (body: unknown, status = 200) =>
    aws.prove(await proof(), aws.spec.parse({}), { ...context, open: () => async () => Response.json(body, { status }) })
  assert.equal((await prove(answer({}))).subject, said.Arn)
  for (const [body, status] of [
    [answer({}), 500],
    [answer({}), 302],
    [{}, 200],
    [answer({ Account: '1234' }), 200],
    [answer({ Arn: 'a'.repeat(2049) }), 200],
    [answer({ UserId: 'a'.repeat(257) }), 200],
  ] as const)
    await assert.rejects(prove(body, status), { code: 'upstream_unavailable' }, `${status} ${JSON.stringify(body).slice(0, 90)}`)
  for (const status of [400, 403]) await assert.rejects(prove(answer({}), status), refused(/does not know who signed/))
})

test('STS that cannot be reached is said to be away', async (t) => {
  const { proof, context } = await place(t)
  const away = { ...context, open: () => () => Promise.reject(new Error('no way')) }
  await assert.rejects(
    aws.prove(await proof(), aws.spec.parse({}), away),
    (error: unknown) => error instanceof ChaperoneError && error.code === 'upstream_unavailable',
  )
})

test('a role of another account is another claim, and a user is no role', () => {
  assert.deepEqual(claimsOf('210987654321', 'arn:aws:iam::210987654321:user/team/reporter', 'AIDA'), {
    account: '210987654321',
    arn: 'arn:aws:iam::210987654321:user/team/reporter',
    user_id: 'AIDA',
    user: 'reporter',
  })
  assert.equal(claimsOf('1', 'arn:aws:sts::123456789012:federated-user/assumed-role/reporter/x', 'x').role, undefined)
})
