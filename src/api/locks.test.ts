import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { newId } from '../ids.ts'
import type { LockRow } from './contract.ts'
import { openHouse } from './house.fixture.ts'

const WORLD = `
kind: mcp
name: files
spec: { command: [server] }
---
kind: postgres
name: shop
spec: { address: "localhost:5432", databases: [shop], tls: { ca: public } }
---
kind: role
name: developer
spec: { allow: [{ mcp: files, tools: any }] }
---
kind: user
name: boris
spec: { roles: [developer] }
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [developer] }
---
kind: tripwire
name: refusals
spec: { when: { refused: { more_than: 20, within: 1m } }, lock: session, for: 15m }
`

async function house(t: TestContext) {
  const open = await openHouse(t)
  const dana = await open.signIn('dana')
  const applied = await open.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'world.yaml', text: WORLD }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  const tool = (name: string) => open.parts.describe.mcp!({ kind: 'mcp', resource: 'files', tool: name, args: {} }, () => assert.fail()) as never
  return { ...open, dana, boris: await open.signIn('boris'), agent: await open.signIn('boris-ai'), tool }
}

test('rule 6: the agents of a person, every agent, one tool: each is locked by itself, and lifted', async (t) => {
  const { ask, dana, boris, agent, guard, tool } = await house(t)
  const reasons = () => [guard.judge(boris, tool('read')).reason, guard.judge(agent, tool('read')).reason, guard.judge(agent, tool('write')).reason]
  assert.deepEqual(reasons(), ['allowed', 'allowed', 'allowed'])
  for (const [body, expected, name] of [
    [{ kind: 'owner', target: 'boris' }, ['allowed', 'locked', 'locked'], 'agents of boris'],
    [{ kind: 'agents', target: '*' }, ['allowed', 'locked', 'locked'], 'every agent'],
    [{ kind: 'tool', target: 'files/read' }, ['locked', 'locked', 'allowed'], 'files/read'],
    [{ kind: 'role', target: 'developer' }, ['locked', 'locked', 'locked'], 'developer'],
    [{ kind: 'session', target: agent.id.slice(-10) }, ['allowed', 'locked', 'locked'], agent.id],
  ] as const) {
    const { status, value } = await ask<LockRow>(dana, 'POST', '/v1/locks', { ...body, reason: 'incident 7' })
    assert.equal(status, 200, JSON.stringify([body, value]))
    assert.deepEqual(reasons(), expected, body.kind)
    assert.equal(value.name, name)
    assert.equal((await ask<{ locks: LockRow[] }>(dana, 'GET', '/v1/locks')).value.locks[0]?.name, name)
    await ask(dana, 'DELETE', `/v1/locks/${value.id}`)
    assert.deepEqual(reasons(), ['allowed', 'allowed', 'allowed'], body.kind)
  }
})

test('a lock on nothing, or on what has no such lock, is refused and says what to write', async (t) => {
  const { ask, dana, store, clock } = await house(t)
  const files = (await store.db.selectFrom('documents').select('id').where('name', '=', 'files').executeTakeFirstOrThrow()).id
  const lock = (kind: string, target: string) => ask(dana, 'POST', '/v1/locks', { kind, target, reason: 'x' })
  assert.equal((await lock('tool', 'files/delete')).status, 200, 'nobody has looked at this server: anything may be locked')
  await store.write((trx) =>
    trx
      .insertInto('pins')
      .values({
        ...{ resource_id: files, kind: 'tool', name: 'read', approved: '{}', approved_sha256: 'x', approved_by: null, approved_at: clock.now() },
        ...{ pending: null, pending_sha256: null, pending_at: null, first_seen_at: clock.now() },
      })
      .execute(),
  )
  await lock('role', 'developer') // the epoch rises, so that the pin is in sight
  for (const [kind, target, code] of [
    ['tool', 'files/delet', 'not_found'],
    ['tool', 'files', 'usage'],
    ['tool', 'nothing/read', 'not_found'],
    ['tool', 'shop/query', 'usage'],
    ['owner', 'boris-ai', 'usage'],
    ['agents', 'boris', 'usage'],
    ['credential', 'boris', 'usage'],
    ['credential', newId('crd'), undefined],
    ['session', 'abcdef', 'not_found'],
    ['session', 'ab', 'usage'],
    // Roles, people and tripwires are no resources.
    ['resource', 'refusals', 'not_found'],
    ['resource', 'tripwire/refusals', 'not_found'],
    ['galaxy', 'x', 'usage'],
  ] as const)
    assert.equal((await lock(kind, target)).code, code, `${kind} ${target}`)
})

test('no lock of any kind leaves nobody to lift it', async (t) => {
  const { ask, dana } = await house(t)
  assert.equal((await ask(dana, 'POST', '/v1/identities/ci/state', { state: 'disabled' })).status, 200)
  for (const body of [
    { kind: 'identity', target: 'dana' },
    { kind: 'role', target: 'admin' },
  ])
    assert.equal((await ask(dana, 'POST', '/v1/locks', { ...body, reason: 'oops' })).code, 'conflict', body.kind)
  for (const body of [
    { kind: 'everything', target: '*' },
    { kind: 'agents', target: '*' },
    { kind: 'owner', target: 'dana' },
  ]) {
    const { value } = await ask<LockRow>(dana, 'POST', '/v1/locks', { ...body, reason: 'stop all' })
    assert.equal((await ask(dana, 'DELETE', `/v1/locks/${value.id}`)).status, 200, body.kind)
  }
})

test('who writes a tripwire must be allowed to lock, as it locks in his name', async (t) => {
  const { ask, dana, signIn } = await house(t)
  const text =
    'kind: role\nname: applier\nspec: { allow: [{ chaperone: any, verbs: [apply] }] }\n---\nkind: user\nname: eve\nspec: { roles: [applier] }\n'
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'eve.yaml', text }] })).status, 200)
  const eve = await signIn('eve')
  const wire = (more: string) => ({
    files: [
      {
        path: 'wire.yaml',
        text: `kind: tripwire\nname: refusals\nspec: { when: { refused: { more_than: 1, within: 1m } }, lock: identity, for: 90d${more} }\n`,
      },
    ],
  })
  assert.equal((await ask(eve, 'POST', '/v1/apply', wire(''))).code, 'invalid_document')
  assert.equal((await ask(eve, 'DELETE', '/v1/documents/tripwire/refusals')).code, 'invalid_document', 'nor takes one away')
  assert.equal((await ask(dana, 'POST', '/v1/apply', wire(''))).status, 200)
  assert.match(JSON.stringify((await ask(dana, 'POST', '/v1/apply', wire(', except: [boriss]'))).value), /no identity/)
})

test('rule 6: whoever alone holds a verb can be locked all the same while others can lift it; the verb is not lost by that', async (t) => {
  const { ask, dana, signIn } = await house(t)
  const apply = (who: typeof dana, text: string) => ask(who, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] })
  const mallory = 'kind: user\nname: mallory\nspec: { roles: [admin] }\n'
  const deny = 'kind: guardrail\nname: mine\nspec: { for: { names: [dana, ci] }, deny: [{ chaperone: any, verbs: [recording.read] }] }\n'
  assert.equal((await apply(dana, mallory)).status, 200)
  assert.equal((await apply(await signIn('mallory'), deny)).code, 'invalid_document', 'not by her')
  assert.equal((await apply(dana, deny)).status, 200, 'by those who give it up')
  const stop = () => ask<{ error: { fix: string } }>(dana, 'POST', '/v1/identities/mallory/state', { state: 'disabled' })
  const refused = await stop()
  assert.equal(refused.code, 'conflict')
  assert.match(JSON.stringify(refused.value), /lock/)
  const locked = await ask<LockRow>(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'mallory', reason: 'incident 8' })
  assert.equal(locked.status, 200, JSON.stringify(locked.value))
  // Lifted it is back; disabled it would be lost for ever, locked or not.
  assert.equal((await stop()).code, 'conflict')
  // What it takes to lift a lock and to let somebody act again is left to somebody who can act.
  assert.equal((await ask(dana, 'POST', '/v1/identities/ci/state', { state: 'disabled' })).status, 200)
  for (const body of [
    { kind: 'identity', target: 'dana' },
    { kind: 'role', target: 'admin' },
  ])
    assert.equal((await ask(dana, 'POST', '/v1/locks', { ...body, reason: 'oops' })).code, 'conflict')
  assert.equal((await ask(dana, 'DELETE', `/v1/locks/${locked.value.id}`)).status, 200)
})
