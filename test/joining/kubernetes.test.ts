import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JoinWay } from '../../src/api/join-contract.ts'
import { type JoinAs, joinAs } from '../../src/client/joining/join-as.ts'
import { house } from '../parts/house.ts'
import { indented, kubernetesWay } from './ways.ts'

test('a pod joins again with the token that the kubelet has written since; the keys come from the API server alone, under the authority of the cluster', async (t) => {
  const own = await house(t)
  const { block, allow, issuer, claims } = await kubernetesWay(t, own)
  const people = 'kind: user\nname: boris\nspec: { roles: [] }\n---\nkind: agent\nname: report-bot\nspec: { owner: boris, roles: [] }\n---\n'
  const document = (text: string) =>
    `${people}kind: join\nname: pod\nspec:\n  agent: report-bot\n  method: kubernetes\n  kubernetes:\n${indented(text, 4)}\n  allow: ${allow}\n`
  const withoutCa = block.replace(/ca: \|\n(?: {2}.*\n?)+/, '')
  await own.apply(document(withoutCa))
  const { server } = await own.dana.api.call<JoinWay>('GET', '/v1/joins/pod')
  const tokenFile = join(own.dir, 'token')
  const ask: JoinAs = { server, as: 'pod', method: 'kubernetes', tokenFile }
  const mounted = async (more = {}) => writeFile(tokenFile, `${await issuer.token({ ...claims, ...more })}\n`)

  await mounted()
  await assert.rejects(joinAs(ask), { code: 'upstream_unavailable', message: /cannot reach the issuer/ })
  assert.deepEqual(issuer.asked, [], 'nothing is asked of a server that shows another certificate')
  await own.apply(document(block))
  const first = await joinAs(ask)
  assert.deepEqual(issuer.asked, ['/openid/v1/jwks'], 'no discovery: the document says where the keys are')
  await assert.rejects(joinAs(ask), { code: 'join_refused', message: /shown before/ })
  await mounted({ exp: Math.floor(Date.now() / 1000) + 600 })
  const second = await joinAs(ask)
  assert.notEqual(second.session, first.session)
})
