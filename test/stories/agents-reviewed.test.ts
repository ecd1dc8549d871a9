import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AgentDetail, AgentRow } from '../../src/api/agents-contract.ts'
import type { Credential } from '../../src/api/contract.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { describeMcp } from '../../src/gateways/mcp/describe.ts'
import { house } from '../parts/house.ts'
import { homeOf, NO_TERMINAL, running } from '../parts/terminal.ts'

const DOCUMENTS = `kind: mcp
name: files
spec: { command: [files-server] }
---
kind: role
name: developer
spec: { allow: [{ mcp: files, tools: any }, { mcp: files, prompts: any }] }
---
kind: user
name: boris
spec: { roles: [developer] }
---
kind: agent
name: old-bot
spec: { owner: boris, roles: [developer] }
`

test('a person goes through his agents at a terminal: one is narrowed to what it did, one is stopped, one is kept', {
  skip: NO_TERMINAL,
  timeout: 180_000,
}, async (t) => {
  const home = await house(t)
  await home.apply(DOCUMENTS)
  const boris = await home.enrol('boris')
  const [asDana, asBoris] = [await homeOf(home, 'dana', home.dana), await homeOf(home, 'boris', boris)]
  await boris.api.call<Credential>('POST', '/v1/clients', { client: 'cursor', csr: makeKeyPair().csr })
  const { guard, state, sessions, store } = home.server.parts
  const show = (name: string) => home.dana.api.call<AgentDetail>('GET', `/v1/agents/${encodeURIComponent(name)}`)

  // What his cursor does, as a gateway has it judged and recorded.
  const cursor = (await show('boris/cursor')).running[0]!
  const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', cursor.id).executeTakeFirstOrThrow()
  const session = await sessions.open({
    ...{ identityId: row.identity_id, kind: 'agent', name: 'boris/cursor', credentialId: 'crd_1', sessionId: row.id, chain: JSON.parse(row.chain) },
    ...{ notAfter: row.expires_at, proof: 'mtls' },
  })
  const { resource, spec } = state.current().find('mcp', 'files')!
  const done = ['read_file', 'list_files', 'read_file']
  const asks = (method: string, name: string) =>
    describeMcp({ resource, spec: spec as never }, { method, params: { name, arguments: { path: '/a' } } })
  const does = async (method: string, name: string) =>
    guard.settle(await guard.admit(session, asks(method, name), { bodies: [{ name: 'arguments', bytes: '{"path":"/a"}' }] }), { status: 'ok' })
  for (const name of done) await does('tools/call', name)

  await t.test('who may apply narrows it there and then, once he has seen what would change', async () => {
    const dana = running(t, ['agent', 'review', 'boris/cursor'], { env: asDana, terminal: { rows: 60 } })
    await dana.said('narrow it, stop it, or leave it')
    assert.match(dana.text(), /3 actions in 30 days; 1 rule that gives something was never used/)
    assert.match(dana.text(), /name: boris-cursor-just-enough/)
    dana.type('n\n')
    await dana.said('Apply this? [y/N]')
    assert.match(dana.text(), /create role boris-cursor-just-enough|\+name: boris-cursor-just-enough/)
    assert.deepEqual((await show('boris/cursor')).roles, 'inherit', 'looking changes nothing')
    dana.type('y\n')
    assert.equal(await dana.ended, 0, dana.text())
    assert.match(dana.text(), /boris\/cursor is kept/)
    const { roles, reviewedBy, holds, usage } = await show('boris/cursor')
    assert.deepEqual([roles, reviewedBy, usage?.unused], [['boris-cursor-just-enough'], 'dana', 0])
    assert.match(holds[0]?.rules[0]?.words ?? '', /^may use mcp files: tools list_files, read_file/)
    const links = state.current().links(session.principal.chain, Date.now())
    assert.deepEqual(
      links.map(({ identity }) => identity.roles),
      [['developer'], ['boris-cursor-just-enough']],
      'both must allow it',
    )
    for (const name of done) await does('tools/call', name)
    for (const [method, name] of [
      ['tools/call', 'write_file'],
      ['tools/call', 'read_files'],
      ['prompts/get', 'read_file'],
    ] as const)
      await assert.rejects(does(method, name), `${method} ${name}: just enough is no more than that`)
  })

  await t.test('its owner keeps one and stops one, without any verb; the second factor is his', async () => {
    const walk = running(t, ['agent', 'review', '--all'], { env: asBoris, terminal: { rows: 60 } })
    await walk.said('1 of 2')
    await walk.said('stop it, or leave it')
    walk.type('k\n')
    await walk.said('Why keep boris/cursor?')
    walk.type('my editor\n')
    await walk.said('2 of 2')
    await walk.said('2 rules that give something were never used')
    walk.type('s\n')
    await walk.said('Why stop old-bot?')
    walk.type('replaced\n')
    assert.equal(await walk.ended, 0, walk.text())
    const { agents } = await boris.api.call<{ agents: AgentRow[] }>('GET', '/v1/agents')
    assert.deepEqual(
      agents.map(({ name, state, stopped, reviewedBy }) => [name, state, stopped, reviewedBy]).sort(),
      [
        ['boris/cursor', 'active', undefined, 'boris'],
        ['old-bot', 'stopped', 'hand', 'boris'],
      ].sort(),
    )
  })
})
