import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JoinWay } from '../../src/api/join-contract.ts'
import { openApi } from '../../src/client/api.ts'
import { type JoinAs, joinAs } from '../../src/client/joining/join-as.ts'
import type { Profile } from '../../src/client/profile.ts'
import { fakeAuthority } from '../fakes/authority.ts'
import { house } from '../parts/house.ts'
import { indented } from './ways.ts'

const HOUR = 3_600_000

test('rule 6: a certificate that its authority revokes lets nobody in, and ends the session that rests on it', async (t) => {
  const own = await house(t)
  const company = await fakeAuthority('company')
  const publish = async (revoked: readonly string[], { until = HOUR, more = '' } = {}) =>
    own.apply(`kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: report-bot
spec: { owner: boris, roles: [] }
---
kind: join
name: fleet
spec:
  agent: report-bot
  method: x509
  x509:
    crl: |
${indented(await company.revoked(revoked, Date.now() + until), 6)}
${more}
    authority: |
${indented(company.certificate, 6)}
  allow: [{ dns: "*.bots.example.com" }]
`)
  await publish([])
  const { server } = await own.dana.api.call<JoinWay>('GET', '/v1/joins/fleet')
  const machine = async (name: string) => {
    const { key, certificate } = await company.issue([`${name}.bots.example.com`])
    const [keyFile, certFile] = [join(own.dir, `${name}.key`), join(own.dir, `${name}.pem`)]
    await Promise.all([writeFile(keyFile, key), writeFile(certFile, certificate)])
    const ask: JoinAs = { server, as: 'fleet', method: 'x509', keyFile, certFile }
    return { ask, serial: new X509Certificate(certificate).serialNumber }
  }
  const whoami = async (profile: Profile) => {
    const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
    try {
      return await api.call<{ name: string }>('GET', '/v1/whoami')
    } finally {
      api.close()
    }
  }
  const [one, two] = [await machine('one'), await machine('two')]
  const [first, second] = [await joinAs(one.ask), await joinAs(two.ask)]
  await publish([one.serial])
  await assert.rejects(joinAs(one.ask), { code: 'join_refused', message: /the certificate was revoked/ })
  await whoami(first)
  // What the server does every minute.
  await own.server.parts.joining.endRevoked((error) => assert.fail(String(error)))
  await assert.rejects(whoami(first), { code: 'session_ended' })
  assert.equal((await whoami(second)).name, 'report-bot')
  await joinAs(two.ask)

  // Nobody's certificate is wrong when the list is overdue, and nobody who is in is thrown out for it.
  await publish([], { until: -1000 })
  await assert.rejects(joinAs(two.ask), { code: 'upstream_unavailable', message: /no current revocation list/ })
  await own.server.parts.joining.endRevoked((error) => assert.fail(String(error)))
  await whoami(second)
  await publish([], { until: -1000, more: '    crl_overdue: believe' })
  await joinAs(two.ask)
})
