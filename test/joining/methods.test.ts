import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { AuditDetail, AuditPage } from '../../src/api/audit-contract.ts'
import type { Credential, WhoAmI } from '../../src/api/contract.ts'
import type { JoinChallenge, JoinWay } from '../../src/api/join-contract.ts'
import { openApi } from '../../src/client/api.ts'
import { presentProof } from '../../src/client/joining/obtain.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { ChaperoneError } from '../../src/errors.ts'
import { formatServerLine, parseServerLine } from '../../src/identity/joining/line.ts'
import { JOIN_METHODS, type JoinMethodName } from '../../src/identity/joining/method.ts'
import { type House, house, keyAndCsr, spkiHashOf } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'
import {
  ATTEMPTS,
  type Attempt,
  awsWay,
  boundKeyWay,
  githubWay,
  gitlabWay,
  indented,
  kubernetesWay,
  type Machine,
  oidcWay,
  type Way,
  x509Way,
} from './ways.ts'

const WAYS: Readonly<Record<JoinMethodName, (test: { after(work: () => Promise<void>): void }, own: House) => Promise<Way>>> = {
  oidc: oidcWay,
  github: githubWay,
  gitlab: gitlabWay,
  kubernetes: kubernetesWay,
  aws: awsWay,
  'bound-key': boundKeyWay,
  x509: x509Way,
}
const AGENT = `kind: role
name: reporter
spec: {}
---
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: report-bot
spec: { owner: boris, roles: [reporter] }
`

/** Of the method that is tried. One each: of what strangers are refused from one address, so many are written down and the rest is counted. */
let own: House

/** A process each. gitlab and kubernetes send a token as oidc does; a bound key has no claims. */
const TYPED: ReadonlySet<JoinMethodName> = new Set(['oidc', 'github', 'aws', 'x509'])

/** What is heard by who has proven nothing yet; the record says what was wrong. */
const STRANGER = /no such way to join, or what was shown does not prove it/
const HIDDEN: ReadonlySet<Attempt> = new Set(['forged', 'none', 'HS256', 'key rotated'])

const documentOf = (way: Way, name: string) => `kind: join
name: ${name}
spec:
  agent: report-bot
  method: ${way.method}
  ${way.method}:
${indented(way.block, 4)}
${way.allow === undefined ? '' : `  allow: ${way.allow}\n`}`

const lineOf = async (name: string, { audience }: Machine) => {
  const { server } = await own.dana.api.call<JoinWay>('GET', `/v1/joins/${name}`)
  return audience === undefined ? server : formatServerLine({ ...parseServerLine(server), audience })
}

/** `chaperone agent join`, as a process of its own on a machine that knows nothing. */
async function typed(way: Way, name: string, machine: Machine, home: string) {
  const args = ['agent', 'join', '--method', way.method, '--as', name, ...(machine.flags ?? [])]
  return await chaperone(args, { env: { ...machine.env, CHAPERONE_HOME: join(own.dir, home), CHAPERONE_JOIN: await lineOf(name, machine) } })
}

/** The same client, one that lies about what it sends. Returns what was sent. */
async function sent(way: Way, name: string, machine: Machine) {
  const api = openApi({ address: own.dana.profile.address, authorities: own.dana.profile.bundles.server })
  const { csr } = keyAndCsr()
  const flag = (which: string) => machine.flags?.[machine.flags.indexOf(which) + 1]
  let body: Record<string, unknown> = {}
  const show = async (proof: Readonly<Record<string, unknown>>) => {
    body = { join: name, proof: machine.lie?.({ ...proof }) ?? proof, csr }
    return await api.call<Credential>('POST', '/v1/join', body)
  }
  try {
    if (machine.token !== undefined) {
      await show({ token: machine.token })
      return body
    }
    await presentProof(
      way.method,
      {
        env: machine.env,
        line: parseServerLine(await lineOf(name, machine)),
        as: name,
        csrKey: spkiHashOf(csr),
        challenge: async () => machine.nonce ?? (await api.call<JoinChallenge>('POST', '/v1/join/challenge', {})).nonce,
        ...(machine.flags?.includes('--key-file') ? { keyFile: flag('--key-file') } : {}),
        ...(machine.flags?.includes('--cert-file') ? { certFile: flag('--cert-file') } : {}),
        ...(machine.flags?.includes('--token-file') ? { tokenFile: flag('--token-file') } : {}),
      },
      show,
    )
    return body
  } finally {
    api.close()
  }
}

async function newestRefusal() {
  const { records } = await own.dana.api.call<AuditPage>('GET', '/v1/audit?type=credential.refused')
  const { envelope } = await own.dana.api.call<AuditDetail>('GET', `/v1/audit/records/${records[0]!.id}`)
  return (envelope as { data: Record<string, unknown> }).data
}

for (const method of JOIN_METHODS)
  describe(`joining by ${method}`, () => {
    let way: Way
    const ending: (() => Promise<void>)[] = []
    after(async () => {
      for (const end of ending.reverse()) await end()
    })
    before(async () => {
      const rig = { after: (work: () => Promise<void>) => void ending.push(work) }
      own = await house(rig)
      await own.apply(AGENT)
      way = await WAYS[method](rig, own)
      await own.apply(documentOf(way, method))
    })

    test('a machine joins by the command of the guide, and is the agent', async () => {
      const joined = await typed(way, method, way.honest, `${method}-home`)
      assert.equal(joined.code, 0, joined.err)
      assert.match(joined.out, /^Signed in as report-bot at /)
      const { address, bundles, key, certificate } = await openProfiles(join(own.dir, `${method}-home`)).load()
      const api = openApi({ address, authorities: bundles.server, identity: { key, certificate } })
      assert.equal((await api.call<WhoAmI>('GET', '/v1/whoami').finally(() => api.close())).name, 'report-bot')
    })

    for (const attempt of ATTEMPTS)
      test(`rule 1: ${attempt}: refused, with nothing of the rule in the answer and all of it in the record`, async (t) => {
        const tried = way.attempts[attempt]
        if (typeof tried === 'string') return t.skip(tried)
        const [machine, told] = await tried()
        const hidden = HIDDEN.has(attempt) || (method === 'aws' && attempt !== 'wrong claim') || machine.lie !== undefined
        // What the command says and how it ends, once for each sort of client code.
        if (attempt === 'wrong claim' && TYPED.has(method)) {
          const { code, err, out } = await typed(way, method, machine, `${method}-nobody`)
          assert.equal(code, 4, err + out)
          assert.match(err, hidden ? STRANGER : told)
          assert.doesNotMatch(err, /octo\/app|group\/app|reporter|workload-7|bots\.example/)
        } else
          await assert.rejects(sent(way, method, machine), (error: unknown) => {
            assert.ok(error instanceof ChaperoneError, String(error))
            assert.equal(error.code, 'join_refused', error.message)
            assert.match(error.message, hidden ? STRANGER : told)
            return true
          })
        const data = await newestRefusal()
        assert.equal(data.document, method)
        assert.equal(data.method, method)
        if (hidden) assert.match(String(data.why), told)
        if (attempt === 'wrong claim' && !machine.lie) assert.ok(data.rule !== undefined && data.claim !== undefined && data.value !== undefined)
      })

    test('rule 9: the same proof a second time is refused, for another key of a certificate as well', async () => {
      const body = await sent(way, method, await way.again())
      const api = openApi({ address: own.dana.profile.address, authorities: own.dana.profile.bundles.server })
      try {
        await assert.rejects(api.call('POST', '/v1/join', body), /shown before/)
        await assert.rejects(api.call('POST', '/v1/join', { ...body, csr: keyAndCsr().csr }), /shown before|another key|no such way/)
      } finally {
        api.close()
      }
    })
  })
