import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Applied, AuthorityRow, Document, ErrorBody, Explained, IdentityRow, LockRow, ResourceRow, SessionRow } from './contract.ts'
import { csr, openHouse } from './house.fixture.ts'

const WORLD = `
kind: mcp
name: files
labels: { env: dev }
spec: { command: [server] }
---
kind: mcp
name: hidden
spec: { command: [server] }
---
kind: role
name: developer
spec:
  allow:
    - mcp: files
      tools: ["read_*"]
---
kind: user
name: boris
spec: { roles: [developer] }
`

async function house(t: TestContext) {
  const open = await openHouse(t)
  const dana = await open.signIn('dana')
  const { status } = await open.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'world.yaml', text: WORLD }] })
  assert.equal(status, 200)
  return { ...open, dana, boris: await open.signIn('boris') }
}

test('documents are applied, shown, compared and deleted; faults name file, line and column', async (t) => {
  const { ask, dana } = await house(t)
  const { value: listed } = await ask<{ documents: Document[] }>(dana, 'GET', '/v1/documents?kind=mcp')
  assert.deepEqual(
    listed.documents.map((document) => document.name),
    ['files', 'hidden'],
  )
  const files = [{ path: 'a.yaml', text: 'kind: mcp\nname: files\nspec: { command: [other] }\n' }]
  const { value: dry } = await ask<Applied>(dana, 'POST', '/v1/apply', { files, dryRun: true })
  assert.match(dry.changes[0]?.diff ?? '', /^- {4}- server$/m)
  assert.equal(dry.epoch, undefined)
  const broken = await ask<{ error: { problems: { file: string; line: number; column: number }[] } }>(dana, 'POST', '/v1/apply', {
    files: [{ path: 'b.yaml', text: 'kind: role\nname: x\nspec:\n  allow:\n    - mcp: nothing\n      tools: any\n' }],
  })
  assert.deepEqual([broken.status, broken.code], [422, 'invalid_document'])
  assert.deepEqual(
    broken.value.error.problems.map(({ file, line, column }) => `${file}:${line}:${column}`),
    ['b.yaml:5:12'],
  )
  assert.equal((await ask(dana, 'DELETE', '/v1/documents/mcp/hidden')).status, 200)
  assert.equal((await ask(dana, 'GET', '/v1/documents/mcp/hidden')).status, 404)
})

test('a name with a slash is one segment of the path', async (t) => {
  const { ask, dana } = await house(t)
  const text = 'kind: agent\nname: boris/claude-code\nspec: { owner: boris }\n'
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })).status, 200)
  const { value } = await ask<Document>(dana, 'GET', '/v1/documents/agent/boris%2Fclaude-code')
  assert.equal(value.name, 'boris/claude-code')
})

test('rule 8: a list of resources shows what the caller may see, with nothing of where it really is', async (t) => {
  const { ask, dana, boris } = await house(t)
  const { value } = await ask<{ resources: ResourceRow[] }>(boris, 'GET', '/v1/resources/mcp')
  assert.deepEqual(value.resources, [
    { name: 'files', labels: { env: 'dev' }, address: 'https://chaperone.test:7443/mcp/files', about: 'stdio server', state: 'ready' },
  ])
  assert.deepEqual((await ask<{ resources: ResourceRow[] }>(dana, 'GET', '/v1/resources/mcp')).value.resources, [])
  assert.equal((await ask(boris, 'GET', '/v1/resources/nothing')).status, 404)
})

test('servers that are no process are listed to whom they are for: Chaperone’s own, and those of databases', async (t) => {
  const { ask, boris, parts } = await house(t)
  const names = ['prod/Billing 2', 'chaperone']
  const builtinServers = () => names.map((name) => ({ resource: { kind: 'mcp', id: name, name, labels: {} } }))
  Object.assign(parts, { builtinServers })
  const { value } = await ask<{ resources: ResourceRow[] }>(boris, 'GET', '/v1/resources/mcp')
  assert.deepEqual(
    value.resources.map(({ name, address, about }) => [name, address, about]),
    [
      ['chaperone', 'https://chaperone.test:7443/mcp/chaperone', "Chaperone's own: ask for access, see what became of it"],
      ['files', 'https://chaperone.test:7443/mcp/files', 'stdio server'],
      ['prod/Billing 2', 'https://chaperone.test:7443/mcp/prod/Billing%202', 'tools of a PostgreSQL database'],
    ],
  )
})

test('rule 6: a lock is in force on this node when the answer comes, by name or id, and ends when it is lifted', async (t) => {
  const { ask, dana, boris, parts, records } = await house(t)
  const action = parts.describe.mcp!({ kind: 'mcp', resource: 'files', tool: 'read_file', args: {} }, (one) =>
    parts.guard.judge(boris, one),
  ) as Parameters<typeof parts.guard.judge>[1]
  assert.equal(parts.guard.judge(boris, action).verdict, 'allow')
  for (const body of [
    { kind: 'identity', target: 'boris' },
    { kind: 'resource', target: 'files' },
    { kind: 'resource', target: 'mcp/files' },
    { kind: 'role', target: 'developer' },
    { kind: 'session', target: boris.id },
    { kind: 'everything', target: '*' },
  ]) {
    const { status, value } = await ask<LockRow>(dana, 'POST', '/v1/locks', { ...body, reason: 'incident 7' })
    assert.equal(status, 200, JSON.stringify([body, value]))
    assert.equal(parts.guard.judge(boris, action).reason, 'locked', body.kind)
    assert.equal(typeof value.acknowledgedMs, 'number')
    assert.equal((await ask<{ locks: LockRow[] }>(dana, 'GET', '/v1/locks')).value.locks[0]?.createdBy, 'dana')
    assert.equal((await ask(dana, 'DELETE', `/v1/locks/${value.id}`)).status, 200)
    assert.equal(parts.guard.judge(boris, action).verdict, 'allow', body.kind)
  }
  assert.equal(records.filter((record) => record.type === 'lock.made').length, 6)
  assert.equal(records.filter((record) => record.type === 'lock.lifted').length, 6)
  assert.equal((await ask(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'nobody', reason: 'x' })).code, 'not_found')
  assert.equal((await ask(dana, 'POST', '/v1/locks', { kind: 'resource', target: 'nothing', reason: 'x' })).code, 'not_found')
})

test('a lock or a state that would leave nobody to undo it is refused', async (t) => {
  const { ask, dana, store } = await house(t)
  // ci could still apply documents then, and give nobody the verbs back that it does not hold.
  const text =
    'kind: role\nname: applier\nspec: { allow: [{ chaperone: any, verbs: [apply] }] }\n---\nkind: agent\nname: ci\nspec: { owner: boris, roles: [applier] }\n'
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'ci.yaml', text }] })).code, undefined)
  assert.equal((await ask(dana, 'POST', '/v1/identities/dana/state', { state: 'disabled' })).code, 'conflict')
  await ask(dana, 'POST', '/v1/identities/ci/state', { state: 'disabled' })
  const epoch = await store.epoch()
  assert.equal((await ask(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'dana', reason: 'oops' })).code, 'conflict')
  assert.equal((await ask(dana, 'POST', '/v1/locks', { kind: 'role', target: 'admin', reason: 'oops' })).code, 'conflict')
  assert.equal((await ask(dana, 'POST', '/v1/identities/dana/state', { state: 'disabled' })).code, 'conflict')
  assert.equal(await store.epoch(), epoch)
})

test('an identity is disabled at once, listed so, and enabled again', async (t) => {
  const { ask, dana, boris } = await house(t)
  const { value } = await ask<IdentityRow>(dana, 'POST', '/v1/identities/boris/state', { state: 'disabled' })
  assert.equal(value.state, 'disabled')
  assert.equal((await ask(boris, 'GET', '/v1/whoami')).code, 'identity_disabled')
  const { value: listed } = await ask<{ identities: IdentityRow[] }>(dana, 'GET', '/v1/identities?kind=agent')
  assert.deepEqual(
    listed.identities.map(({ name, owner }) => [name, owner]),
    [['ci', 'boris']],
  )
  assert.equal((await ask(dana, 'POST', '/v1/identities/boris/state', { state: 'active' })).status, 200)
  assert.equal((await ask(boris, 'GET', '/v1/whoami')).status, 200)
})

test('everybody sees and ends his own sessions and those of his agents; with the verb, all', async (t) => {
  const { ask, dana, boris, signIn } = await house(t)
  const { value: client } = await ask<{ session: string }>(boris, 'POST', '/v1/clients', { client: 'cursor', csr: csr() })
  const list = async (session: typeof dana) =>
    (await ask<{ sessions: SessionRow[] }>(session, 'GET', '/v1/sessions')).value.sessions.map((one) => one.identity).sort()
  assert.deepEqual(await list(boris), ['boris', 'boris/cursor'])
  assert.deepEqual(await list(dana), ['boris', 'boris/cursor', 'dana'])
  assert.equal((await ask(boris, 'DELETE', `/v1/sessions/${client.session}`)).status, 200)
  assert.equal((await ask(boris, 'DELETE', `/v1/sessions/${dana.id}`)).code, 'no_rule')
  assert.equal((await ask(await signIn('dana', { factorGiven: false }), 'DELETE', `/v1/sessions/${boris.id}`)).code, 'factor_required')
  assert.equal((await ask(dana, 'DELETE', `/v1/sessions/${boris.id}`)).status, 200)
  assert.equal((await ask(boris, 'GET', '/v1/whoami')).code, 'session_ended')
})

test('explain says which rule decides; about others only to those who may read policy', async (t) => {
  const { ask, dana, boris } = await house(t)
  const read = { kind: 'mcp', resource: 'files', tool: 'read_file', args: {} }
  const { value: mine } = await ask<Explained>(boris, 'POST', '/v1/explain', read)
  assert.deepEqual([mine.verdict, mine.rule?.document, mine.rule?.section, mine.rule?.index], ['allow', 'developer', 'allow', 0])
  const { value: his } = await ask<Explained>(dana, 'POST', '/v1/explain', { ...read, as: 'boris', tool: 'write_file' })
  assert.deepEqual([his.verdict, his.reason], ['deny', 'no_rule'])
  assert.match(his.missing ?? '', /developer/)
  assert.equal((await ask(boris, 'POST', '/v1/explain', { ...read, as: 'dana' })).code, 'no_rule')
  await ask(dana, 'POST', '/v1/locks', { kind: 'resource', target: 'files', reason: 'incident' })
  assert.equal((await ask<Explained>(boris, 'POST', '/v1/explain', read)).value.reason, 'locked')
})

test('rule 8: explain tells nobody what he may not know: what is hidden and what does not exist look the same', async (t) => {
  const { ask, dana, boris } = await house(t)
  const hidden = await ask(boris, 'POST', '/v1/explain', { kind: 'mcp', resource: 'hidden', tool: 'x' })
  const nothing = await ask(boris, 'POST', '/v1/explain', { kind: 'mcp', resource: 'nothing', tool: 'x' })
  assert.deepEqual([hidden.status, hidden.value], [404, nothing.value])
  const { value } = await ask<Explained>(dana, 'POST', '/v1/explain', { as: 'boris', kind: 'mcp', resource: 'hidden', tool: 'x' })
  assert.equal(value.reason, 'no_rule')
})

test('authorities are shown to whoever is signed in; to rotate one needs the verb', async (t) => {
  const { ask, dana, boris, parts } = await house(t)
  const before = await parts.ca.fingerprint('identity')
  const { value } = await ask<{ authorities: AuthorityRow[] }>(boris, 'GET', '/v1/ca')
  assert.deepEqual(
    value.authorities.map(({ purpose, fingerprint }) => [purpose, fingerprint]),
    [['identity', before]],
  )
  assert.match((await ask<{ pem: string }>(boris, 'GET', '/v1/ca/server')).value.pem, /BEGIN CERTIFICATE/)
  const other = await ask<ErrorBody>(boris, 'GET', '/v1/ca/database:orders')
  assert.deepEqual([other.code, other.value.error.fix?.slice(0, 31)], ['no_rule', 'It takes the verb ca or apply: '])
  const { status, value: rotated } = await ask<{ fingerprint: string }>(dana, 'POST', '/v1/ca/rotate', { purpose: 'identity' })
  assert.equal(status, 200)
  assert.notEqual(rotated.fingerprint, before)
  assert.equal((await ask(dana, 'POST', '/v1/ca/rotate', { purpose: 'database:nothing' })).code, 'not_found')
})

test('the record is watched as it is written, and the watch ends when the watcher loses the right', async (t) => {
  const { ask, call, dana, signIn, parts, records } = await house(t)
  await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: 'kind: user\nname: rita\nspec: { roles: [auditor] }\n' }] })
  const rita = await signIn('rita')
  const response = await call(rita, 'GET', '/v1/audit/tail')
  assert.equal(response.headers.get('content-type'), 'text/event-stream')
  assert.ok(records.some((record) => record.type === 'audit.read' && record.actor?.name === 'rita'))
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  await parts.audit.append({ type: 'node.started', data: { marker: true } })
  let text = ''
  while (!text.includes('node.started')) text += (await reader.read()).value ?? assert.fail('the stream ended')
  await ask(dana, 'POST', '/v1/identities/rita/state', { state: 'disabled' })
  for (;;) if ((await reader.read()).done) break
})
