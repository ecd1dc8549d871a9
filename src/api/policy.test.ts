import assert from 'node:assert/strict'
import { before, type TestContext, test } from 'node:test'
import { parse } from 'yaml'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { connectAction, describeSql, ORDINARY, statementAction } from '../gateways/postgres/describe.ts'
import { describeStatement } from '../gateways/postgres/explain.ts'
import { loadParser } from '../gateways/postgres/sql/parse.ts'
import type { Action } from '../policy/types.ts'
import type { AuditPage } from './audit-contract.ts'
import { openHouse } from './house.fixture.ts'
import type { PolicyDiff, Replayed, Suggested } from './policy-contract.ts'
import { changedDemands } from './policy-demands.ts'

before(loadParser)

const WORLD = `
kind: postgres
name: prod
spec: { address: "db.internal:5432", databases: [shop] }
---
kind: mcp
name: files
spec: { command: [files-server], tools: { read_text: { effects: [read] }, write_text: { effects: [write] } } }
---
kind: role
name: wide
spec:
  allow:
    - { postgres: prod, databases: [shop], as: [app], can: any, tables: any }
    - { mcp: files, tools: any }
---
kind: guardrail
name: trial
spec: { deny: [{ mcp: files, tools: ["write_*"], shadow: true }] }
---
kind: user
name: boris
spec: { roles: [wide] }
---
kind: agent
name: helper
spec: { owner: boris, roles: [wide] }
`
const NARROW = `
kind: role
name: wide
spec:
  allow:
    - { postgres: prod, databases: [shop], as: [app], statements: [select], tables: ["public.*"] }
    - { mcp: files, tools: ["read_*"], args: { path: { under: /reports } } }
  ask:
    - { mcp: files, tools: ["write_*"], approvers: owner }
`

async function recorded(t: TestContext) {
  const house = await openHouse(t, { record: 'real' })
  const { ask, signIn, parts, state, clock } = house
  const dana = await signIn('dana')
  const applied = await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: WORLD }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  await state.refresh(await parts.store.epoch())
  const boris = await signIn('boris')
  const run = async (action: Action, bodies: readonly { name: string; bytes: string }[] = [], status: 'ok' | 'failed' = 'ok') => {
    try {
      parts.guard.settle(await parts.guard.admit(boris, action, { bodies }), { status })
    } catch (error) {
      assert.ok((error as { decisionId?: string }).decisionId, String(error))
    }
  }
  const call = (name: string, args: Record<string, unknown>, keep = true) => {
    const { resource, spec } = state.current().find('mcp', 'files')!
    const action = describeMcp({ resource, spec: spec as never }, { method: 'tools/call', params: { name, arguments: args } })
    return run(action, keep ? [{ name: 'arguments', bytes: JSON.stringify(args) }] : [])
  }
  const place = () => ({ resource: state.current().find('postgres', 'prod')!.resource, database: 'shop', user: 'app' })
  const statement = (sql: string, status: 'ok' | 'failed' = 'ok') =>
    run(statementAction(place(), describeSql(sql)[0]!, ORDINARY), [{ name: 'statement', bytes: sql }], status)
  // As the server makes it, of a database to which nobody is connected.
  Object.assign(parts.describe, { postgres: ({ user = '', database = '', sql = '' }) => describeStatement({ ...place(), user, database, sql }) })
  const files = (text: string) => [{ path: 'new.yaml', text }]
  const since = clock.now() - 60_000
  const replay = async (text: string) => (await ask<Replayed>(dana, 'POST', '/v1/policy/replay', { files: files(text), since })).value
  const diff = async (text: string) => {
    const { status, value } = await ask<PolicyDiff>(dana, 'POST', '/v1/policy/diff', { files: files(text) })
    assert.equal(status, 200, JSON.stringify(value))
    return value
  }
  const suggest = async (identity: string) => (await ask<Suggested>(dana, 'POST', '/v1/policy/suggest', { identity, since })).value
  return { ...house, dana, boris, run, call, place, statement, replay, diff, suggest, files, since }
}

test('replay: each recorded action is the same, differs or cannot be told, and is counted once', async (t) => {
  const { call, statement, run, place, replay, store } = await recorded(t)
  await run(connectAction(place()))
  await call('read_text', { path: '/reports/a' })
  await call('read_text', { path: '/etc/passwd' })
  await call('read_text', { path: '/etc/shadow' })
  await call('write_text', { path: '/reports/a', text: 'x' })
  await call('read_text', { path: '/reports/b' }, false)
  await statement('select name from public.customers')
  await statement('drop table public.customers')
  const { changes, unknowns, ...counts } = await replay(NARROW)
  const mine = changes.filter(({ who }) => who === 'boris')
  assert.deepEqual(
    mine.map(({ was, would, action, rule, count }) => [was, would, action, rule, count]),
    [
      ['allow', 'deny', 'tools/call read_text', undefined, 2],
      ['allow', 'deny', 'DROP public.customers', undefined, 1],
      ['allow', 'ask', 'tools/call write_text', 'role wide, ask rule 1', 1],
    ],
  )
  assert.deepEqual(
    unknowns.map(({ why, count }) => [why, count]),
    [['the record does not hold all that rules read of it', 1]],
  )
  assert.equal(counts.actions, counts.same + counts.differs + counts.bound + counts.cannotTell)
  assert.deepEqual([counts.differs, counts.cannotTell, counts.stoppedAt], [4, 1, undefined])
  // The documents of today change nothing about what they decided; what cannot be told is still not the same.
  const today = await replay(WORLD)
  assert.deepEqual([today.differs, today.cannotTell], [0, 1])
  // Nothing was applied by asking.
  assert.match((await store.db.selectFrom('documents').select('spec').where('name', '=', 'wide').executeTakeFirstOrThrow()).spec, /"any"/)
})

test('replay: allowed under another mask or cap is no longer the same, with what would be another', async (t) => {
  const { statement, replay } = await recorded(t)
  await statement('select name from public.customers')
  await statement('select id from public.orders')
  const role = (more: string) => `
kind: role
name: wide
spec:
  allow:
    - { mcp: files, tools: any }
    - { postgres: prod, databases: [shop], as: [app], can: any, tables: any${more} }
`
  const same = await replay(role(''))
  assert.deepEqual([same.differs, same.bound], [0, 0], 'its number in the document is no demand')
  const { changes, bound, differs, actions, cannotTell, same: others } = await replay(role(', max_rows: 5'))
  assert.deepEqual([differs, bound, actions], [0, 2, others + 2 + cannotTell])
  assert.deepEqual(
    changes.map(({ who, was, would, fields }) => [who, was, would, fields]),
    [
      ['boris', 'allow', 'allow', ['max_rows']],
      ['boris', 'allow', 'allow', ['max_rows']],
    ],
  )
})

test('replay: demands that the record had to cut cannot be told', () => {
  const decided = { verdict: 'allow', obligations: { max_rows: 5 } } as never
  const told = (obligations: unknown) => changedDemands({ type: 'action.intent', decision: { obligations } } as never, decided)
  assert.deepEqual(told({ max_rows: 5 }), [])
  assert.deepEqual(told({}), ['max_rows'])
  const cut = { cut: { size: 99, sha256: 'x' }, head: '{' }
  for (const obligations of [cut, { max_rows: 5, mask: cut }, { max_rows: 5, limits: ['a… [cut: 9 bytes, sha256 x]'] }])
    assert.equal(told(obligations), 'unknown')
})

test('replay: what no rule refused is not taken for a decision of rules', async (t) => {
  const { call, replay, ask, dana } = await recorded(t)
  const { status } = await ask(dana, 'POST', '/v1/locks', { kind: 'resource', target: 'mcp/files', reason: 'look' })
  assert.equal(status, 200)
  await call('read_text', { path: '/etc/a' })
  const { unknowns, changes } = await replay(NARROW)
  assert.deepEqual(
    unknowns.map(({ why, count }) => [why, count]),
    [['it was refused by something that is no rule (locked)', 1]],
  )
  assert.deepEqual(
    changes.filter(({ who }) => who === 'boris'),
    [],
  )
})

test('replay: a question is an ask however it was answered, and what rested on a grant cannot be told', async (t) => {
  const { replay, state, parts, boris } = await recorded(t)
  const { resource, spec } = state.current().find('mcp', 'files')!
  const args = { path: '/etc/a' }
  const { kind, operation, effects, summary } = describeMcp(
    { resource, spec: spec as never },
    { method: 'tools/call', params: { name: 'write_text', arguments: args } },
  )
  const { identityId: id, name } = boris.principal
  const write = (type: 'action.intent' | 'action.refused', decision: object) =>
    parts.audit.append({
      type,
      actor: { id, name },
      chain: [{ id, name }],
      session: boris.id,
      action: { kind, operation, effects, summary, resource: { id: resource.id, name: 'files' }, facts: { tool: 'write_text' } },
      decision: { link: name, obligations: {}, ...decision } as never,
      bodies: [{ name: 'arguments', bytes: JSON.stringify(args) }],
    })
  await write('action.refused', { verdict: 'deny', reason: 'approval_denied' })
  await write('action.refused', { verdict: 'deny', reason: 'approval_unavailable' })
  await write('action.intent', { verdict: 'ask', reason: 'approval_required' })
  await write('action.intent', { verdict: 'allow', reason: 'allowed', grant: 'req_1' })
  await write('action.refused', { verdict: 'deny', reason: 'approval_refused' })
  const { unknowns, changes } = await replay(NARROW)
  assert.deepEqual(
    unknowns.map(({ why, count }) => [why, count]),
    [
      ['it was refused by something that is no rule (approval_refused)', 1],
      ['it rested on a role that was granted for a while', 1],
    ],
  )
  assert.deepEqual(
    changes.filter(({ who }) => who === 'boris'),
    [],
    'it would be asked, and was',
  )
})

test('replay needs both verbs, and is itself a record', async (t) => {
  const { ask, signIn, files, since, dana, store, state, parts } = await recorded(t)
  const ann = `kind: user\nname: ann\nspec: { roles: [auditor] }\n`
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'b.yaml', text: ann }] })).status, 200)
  await state.refresh(await parts.store.epoch())
  const auditor = await signIn('ann')
  assert.equal((await ask(auditor, 'POST', '/v1/policy/replay', { files: files(NARROW), since })).code, 'no_rule')
  assert.equal((await ask(auditor, 'POST', '/v1/policy/diff', { files: files(NARROW) })).code, 'no_rule')
  assert.equal((await ask(auditor, 'POST', '/v1/policy/suggest', { identity: 'boris', since })).status, 200)
  assert.equal((await ask(await signIn('boris'), 'POST', '/v1/policy/suggest', { identity: 'dana', since })).status, 403)
  await ask(dana, 'POST', '/v1/policy/replay', { files: files(NARROW), since })
  const reads = await store.db.selectFrom('audit_leaves').select('leaf').where('type', '=', 'audit.read').execute()
  const told = reads.map(({ leaf }) => Buffer.from(leaf).toString()).join('\n')
  assert.match(told, /"op":"replay"/)
  assert.match(told, /"op":"suggest"/)
})

test('documents that do not fit are refused with their place, and applied by nobody', async (t) => {
  const { ask, dana, since } = await recorded(t)
  for (const path of ['diff', 'replay']) {
    const more = path === 'diff' ? {} : { since }
    const text = 'kind: role\nname: x\nspec:\n  allow:\n    - { mcp: fils, tools: any }\n'
    const answer = await ask<{ error: { problems: { line: number; message: string }[] } }>(dana, 'POST', `/v1/policy/${path}`, {
      files: [{ path: 'x.yaml', text }],
      ...more,
    })
    assert.equal(answer.code, 'invalid_document')
    assert.match(JSON.stringify(answer.value), /There is no mcp resource `fils`/)
  }
})

test('diff: who gains and who loses what, and what was not asked', async (t) => {
  const { diff, store, state } = await recorded(t)
  const { resource } = state.current().find('mcp', 'files')!
  for (const name of ['read_text', 'write_text']) {
    const times = { approved_at: null, pending_at: null, first_seen_at: 0 }
    const row = {
      resource_id: resource.id,
      kind: 'tool' as const,
      name,
      approved: '{}',
      approved_sha256: name,
      approved_by: null,
      pending: null,
      pending_sha256: null,
      ...times,
    }
    await store.write((trx) => trx.insertInto('pins').values(row).execute())
  }
  const found = await diff(`${NARROW}---\nkind: user\nname: boris\nspec: { roles: [wide, approver] }\n`)
  assert.deepEqual(found.changed, ['role/wide', 'user/boris'])
  const lines = found.differences
    .filter(({ who }) => who === 'boris')
    .map(({ change, resource: on, what, before: was, after }) => `${change} ${on} ${what}: ${was} -> ${after}`)
  assert.ok(lines.includes('gains chaperone verb approve: deny -> allow'), lines.join('\n'))
  assert.ok(lines.includes('loses mcp/files call write_text: allow -> ask'), lines.join('\n'))
  assert.ok(!lines.some((line) => line.includes('call read_text')), 'some arguments are allowed as before')
  assert.ok(lines.includes('loses postgres/prod drop public.* in shop as app: allow -> deny'), lines.join('\n'))
  assert.ok(found.notes.some((note) => note.includes('public.some_table stands for all that public.* means')))
  assert.ok(found.notes.some((note) => note.includes('Arguments are left open')))
  assert.deepEqual((await diff(WORLD)).differences, [])
})

test('diff: a table that is made up of a pattern counts as a plain one, not as one that may run anything', async (t) => {
  const { diff, parts } = await recorded(t)
  const describe = parts.describe.postgres!
  // With a catalog at hand, what is not in it is opaque.
  const opaque = (action: Action) => ({ ...action, facts: { ...action.facts, opaque: true } })
  Object.assign(parts.describe, { postgres: async (...asked: Parameters<typeof describe>) => [await describe(...asked)].flat().map(opaque) })
  const found = await diff(`
kind: role
name: wide
spec:
  allow: [{ postgres: prod, databases: [shop], as: [app], can: any, tables: any }, { mcp: files, tools: any }]
  ask: [{ postgres: prod, databases: [shop], as: [app], statements: [update] }]
`)
  const lines = found.differences.map(({ who, change, what, before: was, after }) => `${who} ${change} ${what}: ${was} -> ${after}`)
  assert.ok(lines.includes('boris loses update public.some_table in shop as app: allow -> ask'), lines.join('\n'))
})

test('suggest: the narrowest role that allows what was done, and nothing that failed or was refused', async (t) => {
  const { call, statement, suggest, ask, dana, state, parts, boris, run, place } = await recorded(t)
  await run(connectAction(place()))
  await call('read_text', { path: '/reports/a' })
  await call('read_text', { path: '/reports/b' })
  await call('list', {})
  await statement('select name from public.customers')
  await statement('select id from public.orders')
  await statement('delete from public.orders where id = 1', 'failed')
  const found = await suggest('boris')
  assert.deepEqual(parse(found.yaml), {
    kind: 'role',
    name: 'boris-suggested',
    spec: {
      allow: [
        { mcp: 'files', tools: ['read_text'], args: { path: { under: '/reports' } } },
        { mcp: 'files', tools: ['list'] },
        { postgres: 'prod', databases: ['shop'], as: ['app'], statements: ['select'], max_rows: 1000, tables: ['public.customers', 'public.orders'] },
      ],
    },
  })
  assert.deepEqual([found.actions, found.covered, found.left], [5, 5, []])
  // It can be applied as it is, and gives just that.
  const given = `${found.yaml}\n---\nkind: user\nname: boris\nspec: { roles: [boris-suggested] }\n`
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 's.yaml', text: given }] })).status, 200)
  await state.refresh(await parts.store.epoch())
  const { resource, spec } = state.current().find('mcp', 'files')!
  const judge = (path: string) =>
    parts.guard.judge(
      boris,
      describeMcp({ resource, spec: spec as never }, { method: 'tools/call', params: { name: 'read_text', arguments: { path } } }),
    ).verdict
  assert.deepEqual([judge('/reports/c'), judge('/etc/passwd')], ['allow', 'deny'])
  assert.deepEqual(await suggest('helper'), { identity: 'helper', yaml: '', actions: 0, covered: 0, left: [], unknowns: [] })
})

test('what a rule in shadow mode would have refused can be searched', async (t) => {
  const { call, ask, dana } = await recorded(t)
  await call('read_text', { path: '/reports/a' })
  await call('write_text', { path: '/reports/a' })
  const search = async (query: string) => (await ask<AuditPage>(dana, 'GET', `/v1/audit?${query}`)).value.records
  for (const query of ['shadow=any', 'shadow=deny']) {
    const found = await search(query)
    assert.deepEqual(
      found.map(({ action, verdict, shadow }) => [action, verdict, shadow]),
      [['tools/call write_text', 'allow', 'deny: guardrail trial, deny rule 1']],
    )
  }
  assert.deepEqual(await search('shadow=ask'), [])
  assert.equal((await ask(dana, 'GET', '/v1/audit?shadow=maybe')).code, 'usage')
})
