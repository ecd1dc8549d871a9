import { createHmac, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeChallenge } from '../../src/identity/joining/challenge.ts'
import type { JoinMethodName } from '../../src/identity/joining/method.ts'
import { type FakeAuthority, fakeAuthority } from '../fakes/authority.ts'
import { type FakeIssuer, fakeIssuer } from '../fakes/issuer.ts'
import { fakeProxy } from '../fakes/proxy.ts'
import { fakeSts } from '../fakes/sts.ts'
import type { House } from '../parts/house.ts'
import { tampered } from '../parts/tampered.ts'

/** What is tried at every method. */
export const ATTEMPTS = ['forged', 'expired', 'wrong audience', 'none', 'HS256', 'wrong claim', 'key rotated'] as const
export type Attempt = (typeof ATTEMPTS)[number]

/** A machine as `chaperone agent join` finds it. */
export interface Machine {
  readonly flags?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** The runner's endpoint is believed only by a process that was told so at its start: without one, this is sent. */
  readonly token?: string
  /** Changes what is sent to the server, as a client that lies would. */
  readonly lie?: (proof: Record<string, unknown>) => Record<string, unknown>
  /** the nonce that is signed, in place of the server's */
  readonly nonce?: string
  /** what stands in the line behind `for=` */
  readonly audience?: string
}

export interface Way {
  readonly method: JoinMethodName
  /** of the document */
  readonly block: string
  readonly allow?: string
  readonly honest: Machine
  /** an honest machine once more, with a proof that was not shown yet */
  readonly again: () => Promise<Machine>
  /** Asked for when its turn comes, in the order of ATTEMPTS, with what the caller must hear. A text: why there is no such thing here. */
  readonly attempts: Readonly<Record<Attempt, string | (() => Promise<readonly [Machine, RegExp]>)>>
}

interface Test {
  after(work: () => Promise<void>): void
}

export const indented = (text: string, by: number) => text.trim().replaceAll(/^/gm, ' '.repeat(by))
const b64 = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const part = (token: string, at: number) => JSON.parse(Buffer.from(token.split('.')[at]!, 'base64url').toString()) as Record<string, unknown>
const unsigned = (token: string) => `${b64({ ...part(token, 0), alg: 'none' })}.${token.split('.')[1]}.`
/** With the public key, which everybody has, as the shared secret. */
const confused = (token: string, key: KeyObject) => {
  const head = `${b64({ ...part(token, 0), alg: 'HS256' })}.${token.split('.')[1]}`
  return `${head}.${createHmac('sha256', key.export({ type: 'spki', format: 'pem' }))
    .update(head)
    .digest('base64url')}`
}
/** Too long ago, by the server's own hand. */
const oldNonce = async ({ server }: House) =>
  makeChallenge(await server.parts.keyring.derive('values', 'challenges of joining'), Date.now() - 600_000).nonce

type FromToken = (token: string) => Promise<Machine>

/** The four methods whose proof is a token of somebody else. */
async function tokenWay(
  test: Test,
  method: 'gitlab' | 'oidc' | 'kubernetes' | 'github',
  good: Record<string, unknown>,
  bad: Record<string, unknown>,
  told: RegExp,
  machineOf: FromToken,
  more: { block?(issuer: FakeIssuer): string; allow: string },
): Promise<Way & { readonly issuer: FakeIssuer }> {
  const issuer = await fakeIssuer()
  test.after(() => issuer.close())
  const now = Math.floor(Date.now() / 1000)
  const key = async () => {
    const { kid } = part(await issuer.token(), 0)
    return createPublicKey({ key: issuer.published().find((one) => one.kid === kid)!, format: 'jwk' })
  }
  return {
    method,
    issuer,
    block: `issuer: ${issuer.issuer}\nallow_private: true\nca: |\n${indented(issuer.ca, 2)}${more.block ? `\n${more.block(issuer)}` : ''}`,
    allow: more.allow,
    honest: await machineOf(await issuer.token(good)),
    // Without a `jti`, what is issued twice in one second is the same token.
    again: async () => await machineOf(await issuer.token({ ...good, issued_for: randomUUID() })),
    attempts: {
      forged: async () => [await machineOf(tampered(await issuer.token(good))), /signature/],
      expired: async () => [await machineOf(await issuer.token({ ...good, iat: now - 900, nbf: now - 900, exp: now - 300 })), /past its end/],
      'wrong audience': async () => [
        await machineOf(await issuer.token({ ...good, aud: 'https://elsewhere.example' })),
        /`aud` is "https:\/\/elsewhere/,
      ],
      none: async () => [await machineOf(unsigned(await issuer.token(good))), /"none" are not believed/],
      HS256: async () => [await machineOf(confused(await issuer.token(good), await key())), /"HS256" are not believed/],
      'wrong claim': async () => [await machineOf(await issuer.token({ ...good, ...bad })), told],
      // Its issuer was asked a moment ago, and is not asked again for each made-up key id.
      'key rotated': async () => {
        const next = await issuer.tokenOfNext(good)
        return [await machineOf(next), /does not publish/]
      },
    },
  }
}

export async function oidcWay(test: Test, { dir }: House): Promise<Way> {
  const toFile = async (token: string) => {
    const file = join(dir, `${randomUUID()}.jwt`)
    await writeFile(file, token)
    return { flags: ['--token-file', file] }
  }
  return await tokenWay(test, 'oidc', { sub: 'workload-7' }, { sub: 'workload-8' }, /`sub` is "workload-8"/, toFile, {
    allow: '[{ sub: workload-7 }]',
  })
}

/** What a runner sets for a job with `id_tokens: { CHAPERONE_ID_TOKEN: { aud: ... } }`. */
export async function gitlabWay(test: Test): Promise<Way> {
  const claims = (project: string) => ({
    sub: `project_path:${project}:ref_type:branch:ref:main`,
    project_path: project,
    namespace_path: 'group',
    ref: 'main',
    ref_type: 'branch',
    ref_protected: 'true',
    pipeline_source: 'push',
    job_id: '302',
  })
  const job = async (token: string) => ({
    env: { CI: 'true', GITLAB_CI: 'true', CI_JOB_ID: '302', CI_PROJECT_PATH: 'group/app', CI_COMMIT_REF_NAME: 'main', CHAPERONE_ID_TOKEN: token },
  })
  return await tokenWay(test, 'gitlab', claims('group/app'), claims('group/other'), /`project_path` is "group\/other"/, job, {
    allow: '[{ project_path: group/app, ref: main, ref_protected: "true" }]',
  })
}

/** The kubelet's file, and an API server that publishes its keys under the authority of the cluster. */
export async function kubernetesWay(
  test: Test,
  { dir }: House,
): Promise<Way & { readonly issuer: FakeIssuer; readonly claims: Record<string, unknown> }> {
  const claims = (namespace: string) => ({
    jti: undefined,
    sub: `system:serviceaccount:${namespace}:reporter`,
    'kubernetes.io': { namespace, serviceaccount: { name: 'reporter', uid: 'u1' }, pod: { name: 'p-1', uid: 'u2' } },
  })
  const mounted = async (token: string) => {
    const file = join(dir, `${randomUUID()}-token`)
    await writeFile(file, token)
    return { flags: ['--token-file', file] }
  }
  const good = claims('agents')
  const way = await tokenWay(test, 'kubernetes', good, claims('default'), /`namespace` is "default"/, mounted, {
    block: ({ issuer }) => `api: ${issuer}\nonce: true`,
    allow: '[{ namespace: agents, service_account: reporter }]',
  })
  return { ...way, claims: good }
}

/** The runner's endpoint, from which the job gets its token, and the issuer: two addresses, as at GitHub. */
export async function githubWay(test: Test, { dir }: House): Promise<Way> {
  const runner = await fakeIssuer()
  test.after(() => runner.close())
  const trusted = join(dir, 'runner.pem')
  await writeFile(trusted, runner.ca)
  const job = async (token: string) => ({ token, env: { GITHUB_ACTIONS: 'true', ...runner.actionsJob(token), NODE_EXTRA_CA_CERTS: trusted } })
  const claims = (repository: string) => ({ sub: `repo:${repository}:ref:refs/heads/main`, repository, ref: 'refs/heads/main' })
  return await tokenWay(test, 'github', claims('octo/app'), claims('octo/fork'), /`repository` is "octo\/fork"/, job, {
    allow: '[{ repository: octo/app, ref: refs/heads/main }]',
  })
}

/** The signature of a statement is a JWS, so what can be done to tokens can be done to it. */
const lies = (key: () => KeyObject) => ({
  changed: (proof: Record<string, unknown>) => ({ ...proof, signed: tampered(String(proof.signed)) }),
  unsigned: (proof: Record<string, unknown>) => ({ ...proof, signed: unsigned(String(proof.signed)) }),
  confused: (proof: Record<string, unknown>) => ({ ...proof, signed: confused(String(proof.signed), key()) }),
})

export async function x509Way(_: Test, house: House): Promise<Way & { readonly company: FakeAuthority; readonly chain: string }> {
  const { dir } = house
  const company = await fakeAuthority('company')
  const machine = async (names: string[], { by = company, life }: { by?: FakeAuthority; life?: { notBefore: Date; notAfter: Date } } = {}) => {
    const { key, certificate } = await by.issue(names, life)
    const [keyFile, certFile] = [join(dir, `${randomUUID()}.key`), join(dir, `${randomUUID()}.pem`)]
    await Promise.all([writeFile(keyFile, key), writeFile(certFile, certificate)])
    return { flags: ['--cert-file', certFile, '--key-file', keyFile], certFile, keyFile, certificate }
  }
  const honest = await machine(['a.bots.example.com'])
  const key = createPublicKey(await readFile(honest.certFile, 'utf8'))
  const lie = lies(() => key)
  const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) }
  return {
    method: 'x509',
    company,
    chain: honest.certificate,
    block: `authority: |\n${indented(company.certificate, 2)}`,
    allow: '[{ dns: "*.bots.example.com" }]',
    honest,
    again: async () => honest,
    attempts: {
      forged: async () => [{ ...honest, lie: lie.changed }, /signature/],
      expired: async () => [await machine(['a.bots.example.com'], { life: past }), /the certificate holds from/],
      'wrong audience': async () => [{ ...honest, audience: 'https://elsewhere.example' }, /for another server/],
      none: async () => [{ ...honest, lie: lie.unsigned }, /cannot be read/],
      HS256: async () => [{ ...honest, lie: lie.confused }, /cannot be read/],
      'key rotated': async () => [await machine(['a.bots.example.com'], { by: await fakeAuthority('company') }), /no authority of the document/],
      'wrong claim': async () => [await machine(['a.people.example.com']), /`dns` is "a.people.example.com"/],
    },
  }
}

export async function boundKeyWay(_: Test, house: House): Promise<Way> {
  const { dir } = house
  const keyFile = join(dir, 'machine.json')
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }) as string
  const write = (file: string, key: KeyObject) =>
    writeFile(file, JSON.stringify({ v: 1, key: key.export({ type: 'pkcs8', format: 'pem' }), joins: 0 }), { mode: 0o600 })
  await write(keyFile, privateKey)
  const honest = { flags: ['--key-file', keyFile] }
  const lie = lies(() => createPublicKey(privateKey))
  const other = generateKeyPairSync('ed25519')
  return {
    method: 'bound-key',
    block: `keys:\n  - |\n${indented(pem(publicKey), 4)}`,
    honest,
    again: async () => honest,
    attempts: {
      forged: async () => [{ ...honest, lie: lie.changed }, /signature/],
      expired: async () => [{ ...honest, nonce: await oldNonce(house) }, /too long ago/],
      'wrong audience': async () => [{ ...honest, audience: 'https://elsewhere.example' }, /for another server/],
      none: async () => [{ ...honest, lie: lie.unsigned }, /cannot be read/],
      HS256: async () => [{ ...honest, lie: lie.confused }, /cannot be read/],
      'key rotated': async () => {
        const file = join(dir, 'rotated.json')
        await write(file, other.privateKey)
        return [{ flags: ['--key-file', file] }, /this key is not known/]
      },
      'wrong claim': async () => {
        // The key is the claim: another's public half, signed with one's own.
        const file = join(dir, 'claimed.json')
        await write(file, other.privateKey)
        return [{ flags: ['--key-file', file], lie: (proof) => ({ ...proof, key: pem(publicKey) }) }, /signature/]
      },
    },
  }
}

const ARN = 'arn:aws:sts::123456789012:assumed-role'
const AKIA = { mine: 'AKIAIOSFODNN7EXAMPLE', other: 'AKIAIOSFODNN7ANOTHER', gone: 'AKIAIOSFODNN7EXPIRED' }

/** STS is found by its name alone, at a proxy of the company that leads there. */
export async function awsWay(test: Test, house: House): Promise<Way> {
  const principal = (role: string) => ({
    ...{ secret: `wJalrXUtnFEMI/${role}/bPxRfiCYEXAMPLEKEY`, token: `token-of-${role}`, account: '123456789012' },
    ...{ arn: `${ARN}/${role}/i-0abc`, userId: `AROA:${role}` },
  })
  const sts = await fakeSts({ [AKIA.mine]: principal('reporter'), [AKIA.other]: principal('other') })
  test.after(() => sts.close())
  const proxy = await fakeProxy({ to: (host) => ({ host: '127.0.0.1', port: /^sts\.eu-central-1\.amazonaws\.com$/.test(host) ? sts.port : 9 }) })
  test.after(() => proxy.close())
  test.after(async () => {
    delete process.env.HTTPS_PROXY
    delete process.env.NO_PROXY
  })
  process.env.HTTPS_PROXY = `http://127.0.0.1:${proxy.port}`
  process.env.NO_PROXY = '127.0.0.1,localhost'
  const instance = (id: string, role: string, more: NodeJS.ProcessEnv = {}): Machine => ({
    env: {
      ...{ AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: principal(role).secret, AWS_SESSION_TOKEN: principal(role).token },
      ...{ AWS_REGION: 'eu-central-1', ...more },
    },
  })
  const honest = instance(AKIA.mine, 'reporter')
  const algorithm = (name: string) => (proof: Record<string, unknown>) => ({
    ...proof,
    authorization: String(proof.authorization).replace('AWS4-HMAC-SHA256', name),
  })
  return {
    method: 'aws',
    block: `regions: [eu-central-1]\nca: |\n${indented(sts.ca, 2)}`,
    allow: '[{ account: "123456789012", role: reporter }]',
    honest,
    again: async () => honest,
    attempts: {
      forged: async () => [instance(AKIA.mine, 'reporter', { AWS_SECRET_ACCESS_KEY: 'guessed' }), /AWS does not know who signed/],
      expired: async () => [{ ...honest, nonce: await oldNonce(house) }, /too long ago/],
      'wrong audience': async () => [{ ...honest, audience: 'https://elsewhere.example' }, /for another server/],
      none: async () => [{ ...honest, lie: algorithm('none') }, /not signed for STS/],
      HS256: 'a signature of AWS is keyed by a secret that no public key stands for, and names no other algorithm',
      'key rotated': async () => [instance(AKIA.gone, 'reporter'), /AWS does not know who signed/],
      'wrong claim': async () => [instance(AKIA.other, 'other'), /`role` is "other"/],
    },
  }
}
