import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Credential } from '../../src/api/contract.ts'
import { openApi } from '../../src/client/api.ts'
import { type House, house, keyAndCsr, type Member } from '../parts/house.ts'

const DOCUMENTS = `
kind: role
name: asker
spec: { request: [ { role: extra, max: 1h, reason: optional } ] }
---
kind: role
name: extra
spec: { allow: [ { mcp: any, can: read } ] }
---
kind: user
name: erik
spec: { roles: [admin] }
---
kind: user
name: boris
spec: { roles: [asker] }
---
kind: agent
name: report-bot
spec: { owner: boris, roles: [asker] }
`
const OWN = 'Nobody decides about what is asked with a credential that he issued.'

/** What an administrator says to what this session asks for: yes, or why he may not. */
async function standing({ server: { parts } }: House, sessionId: string, who: Member): Promise<string> {
  const asking = parts.sessions.list().find(({ id }) => id === sessionId)!
  const { id } = await parts.requests.ask(asking, { role: 'extra', forMs: 600_000, reason: 'x' })
  const mine = await sessionOf(who)
  const voter = parts.sessions.list().find((one) => one.id === mine)!
  const seen = await parts.requests.show(voter, id)
  await parts.requests.decide(voter, id, { verdict: 'approve', seen: seen.seen, how: 'cli' }).catch(() => {})
  const { state } = await parts.requests.show(voter, id)
  return state === 'approved' ? 'yes' : (seen.standing.no ?? state)
}

const sessionOf = async ({ api }: Pick<Member, 'api'>) => (await api.call<{ session: { id: string } }>('GET', '/v1/whoami')).session.id

test('rule 12: who made the join token of an agent decides about nothing that it asks for, also after a renewal', async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const erik = await home.enrol('erik')
  const bot = await home.join('report-bot')
  const id = await sessionOf(bot)
  assert.equal(await standing(home, id, home.dana), OWN)
  assert.equal(await standing(home, id, erik), 'yes')
  const { key, csr } = keyAndCsr()
  const { certificate } = await bot.api.call<Credential>('POST', '/v1/renew', { csr })
  const renewed = openApi({ address: bot.profile.address, authorities: bot.profile.bundles.server, identity: { key, certificate } })
  t.after(async () => renewed.close())
  assert.equal(await standing(home, await sessionOf({ api: renewed }), home.dana), OWN)
})

test('rule 12: what is made with an issued credential of a person has the same issuer', async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const erik = await home.enrol('erik')
  const { address, bundles } = home.dana.profile
  const as = (identity: { readonly key: string; readonly certificate: string }) => {
    const api = openApi({ address, authorities: bundles.server, identity })
    t.after(async () => api.close())
    return api
  }
  const [person, tool] = [keyAndCsr(), keyAndCsr()]
  const issued = await home.dana.api.call<Credential>('POST', '/v1/issue', { name: 'boris', csr: person.csr, ttl: '5m' })
  const boris = as({ key: person.key, certificate: issued.certificate })
  const made = await boris.call<Credential>('POST', '/v1/clients', { client: 'claude', csr: tool.csr })
  await home.apply('kind: agent\nname: boris/claude\nspec: { owner: boris, roles: [asker] }\n')
  const claude = as({ key: tool.key, certificate: made.certificate })
  const id = await sessionOf({ api: claude })
  assert.equal(await standing(home, id, home.dana), OWN)
  assert.equal(await standing(home, id, erik), 'yes')
})
