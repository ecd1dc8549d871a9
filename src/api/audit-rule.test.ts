import assert from 'node:assert/strict'
import { before, type TestContext, test } from 'node:test'
import { parse } from 'yaml'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { describeSql, ORDINARY, statementAction } from '../gateways/postgres/describe.ts'
import { loadParser } from '../gateways/postgres/sql/parse.ts'
import type { Action } from '../policy/types.ts'
import type { AuditDetail, AuditPage, AuditRule } from './audit-contract.ts'
import { openHouse } from './house.fixture.ts'

before(loadParser)

const DOCUMENTS = `
kind: postgres
name: prod
spec: { address: "db.internal:5432", databases: [shop] }
---
kind: mcp
name: files
spec: { command: [files-server], trusted: true }
---
kind: role
name: analyst
spec:
  allow:
    - { postgres: prod, databases: [shop], as: [reader], can: read, tables: ["public.*"] }
    - { mcp: files, tools: ["read_*"] }
---
kind: user
name: boris
spec: { roles: [analyst] }
`

async function analyst(t: TestContext) {
  const house = await openHouse(t, { record: 'real' })
  const { ask, signIn, parts, state } = house
  const dana = await signIn('dana')
  const applied = await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: DOCUMENTS }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  await state.refresh(await parts.store.epoch())
  const boris = await signIn('boris')
  /** Admits it, if policy does; the id of the record either way. */
  const run = async (action: Action, bodies: readonly { name: string; bytes: string }[] = []): Promise<string> => {
    try {
      const permit = await parts.guard.admit(boris, action, { bodies })
      parts.guard.settle(permit, { status: 'ok', facts: { rows: 3, ms: 1 } })
      return permit.id
    } catch (error) {
      return (error as { decisionId?: string }).decisionId ?? assert.fail(String(error))
    }
  }
  const statement = (sql: string, user = 'reader') => {
    const { resource } = state.current().find('postgres', 'prod')!
    const action = statementAction({ resource, database: 'shop', user }, describeSql(sql)[0]!, ORDINARY)
    return run(action, [{ name: 'statement', bytes: sql }])
  }
  const call = (name: string, args: Record<string, unknown>) => {
    const { resource } = state.current().find('mcp', 'files')!
    const action = describeMcp({ resource, spec: { tools: {}, trusted: true } }, { method: 'tools/call', params: { name, arguments: args } })
    return run(action, [{ name: 'arguments', bytes: JSON.stringify(args) }])
  }
  const ruleFor = async (id: string, more = '') => (await ask<AuditRule>(dana, 'GET', `/v1/audit/records/${id}/rule${more}`)).value
  const search = async (query: string) => (await ask<AuditPage>(dana, 'GET', `/v1/audit?${query}`)).value.records
  return { ...house, dana, boris, statement, call, ruleFor, search }
}

test('a rule drafted from a statement that ran refuses it, and says where it stands', async (t) => {
  const { statement, ruleFor } = await analyst(t)
  const id = await statement('select name from public.customers where id = 5')
  const answer = await ruleFor(id)
  assert.deepEqual([answer.want, answer.now?.verdict, answer.withDraft?.reason], ['deny', 'allow', 'denied_by_rule'])
  assert.deepEqual(
    [answer.draft?.document, answer.draft?.section, parse(answer.draft?.yaml ?? '')],
    ['analyst', 'deny', [{ postgres: 'prod', databases: ['shop'], as: ['reader'], statements: ['select'], tables: ['public.customers'] }]],
  )
  const everybody = await ruleFor(id, '?guardrail=no-customers')
  assert.deepEqual(
    [everybody.draft?.kind, everybody.draft?.document, everybody.withDraft?.reason],
    ['guardrail', 'no-customers', 'denied_by_guardrail'],
  )
})

test('a rule drafted from a refused statement allows it once it is applied, as narrowly as it can be said', async (t) => {
  const { statement, ruleFor, ask, dana, state, parts } = await analyst(t)
  const id = await statement("update public.customers set name = 'x' where id = 5", 'writer')
  const answer = await ruleFor(id)
  assert.deepEqual([answer.want, answer.now?.reason, answer.withDraft?.verdict], ['allow', 'no_rule', 'allow'])
  assert.deepEqual(answer.draft?.rule, {
    postgres: 'prod',
    databases: ['shop'],
    as: ['writer'],
    statements: ['update'],
    require_where: true,
    tables: ['public.customers'],
  })
  assert.equal(answer.draft?.document, 'analyst')
  const role = parse(DOCUMENTS.split('---')[2]!) as { spec: { allow: unknown[] } }
  role.spec.allow.push(answer.draft?.rule)
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: JSON.stringify(role) }] })).status, 200)
  await state.refresh(await parts.store.epoch())
  const again = await statement("update public.customers set name = 'y' where id = 6", 'writer')
  assert.equal((await ruleFor(again)).want, 'deny')
})

test('what no rule can allow has no draft, and the reason', async (t) => {
  const { statement, ruleFor, ask, dana } = await analyst(t)
  const unclear = await ruleFor(await statement('selekt 1'))
  assert.equal(unclear.draft, undefined)
  assert.match(unclear.message, /No rule can allow it, because what it does cannot be known for sure: it cannot be parsed/)
  const opened = (await ask<AuditPage>(dana, 'GET', '/v1/audit?type=session.started')).value.records[0]!
  assert.equal((await ask(dana, 'GET', `/v1/audit/records/${opened.id}/rule`)).code, 'usage')
  assert.equal((await ask(dana, 'GET', '/v1/audit/records/per_nothing/rule')).code, 'not_found')
  for (const query of ['?role=a&guardrail=b', '?role=', '?rolle=a', '?guardrail=../x'])
    assert.equal((await ask(dana, 'GET', `/v1/audit/records/${opened.id}/rule${query}`)).code, 'usage', query)
})

test('where no rule made the refusal, or what a rule demands stopped it, there is no draft', async (t) => {
  const { statement, ruleFor, ask, dana, boris, parts, state } = await analyst(t)
  const role = `kind: role
name: seldom
spec: { allow: [{ postgres: prod, databases: [shop], as: [seldom], can: read, limits: { rate: 1/1h } }] }
---
kind: user
name: boris
spec: { roles: [analyst, seldom] }`
  const applied = await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'b.yaml', text: role }] })
  assert.equal(applied.status, 200, JSON.stringify(applied.value))
  await state.refresh(await parts.store.epoch())
  await statement('select 1', 'seldom')
  const limited = await ruleFor(await statement('select 1', 'seldom'))
  assert.match(limited.message, /No rule made this refusal \(rate_limited/)

  const { resource } = state.current().find('postgres', 'prod')!
  const action = statementAction({ resource, database: 'shop', user: 'reader' }, describeSql('select name from public.customers')[0]!, ORDINARY)
  const permit = await parts.guard.admit(boris, action, {})
  parts.guard.settle(permit, { status: 'failed', facts: { sent: false, reason: 'obligation_unsupported' } })
  assert.match((await ruleFor(permit.id)).message, /could not be kept for it/)
})

test('a call of a tool is judged again with its arguments; without them nobody can tell', async (t) => {
  const { call, ruleFor, store } = await analyst(t)
  const read = await ruleFor(await call('read_file', { path: '/reports/q3.txt' }))
  assert.deepEqual(read.draft?.rule, { mcp: 'files', tools: ['read_file'], args: { path: { under: '/reports' } } })
  assert.equal(read.withDraft?.reason, 'denied_by_rule')
  const id = await call('write_file', { path: '/reports/q3.txt', text: 'x' })
  const written = await ruleFor(id)
  assert.deepEqual([written.draft?.document, written.withDraft?.verdict], ['analyst', 'allow'])
  await store.write((trx) => trx.updateTable('audit_bodies').set({ body: null, erased_at: 1 }).where('name', '=', 'arguments').execute())
  const erased = await ruleFor(id)
  assert.equal(erased.draft, undefined)
  assert.match(erased.message, /cannot be judged again/)
})

test('statements are found by table, column, database user, kind, effect, fingerprint and refusal, behind what an envelope cannot hold too', async (t) => {
  const { statement, search } = await analyst(t)
  const five = await statement('select name from public.customers where id = 5')
  const six = await statement('select name from public.customers where id = 6')
  const orders = await statement('select 1 from public.orders')
  const update = await statement("update public.customers set name = 'x'", 'writer')
  const wide = await statement(`select 1 from ${Array.from({ length: 300 }, (_, i) => `public.a_table_with_a_long_name_${i}`).join(', ')}`)
  const ids = async (query: string) => (await search(`${query}&limit=100`)).map(({ id }) => id).sort()
  const sorted = (...of: string[]) => of.sort()
  assert.deepEqual(await ids('table=public.customers'), sorted(five, six, update))
  assert.deepEqual(await ids('table=orders'), sorted(orders))
  assert.deepEqual(await ids('table=public.a_table_with_a_long_name_299'), sorted(wide))
  assert.deepEqual(await ids('table=ders'), [])
  assert.deepEqual(await ids('user=writer'), sorted(update))
  assert.deepEqual(await ids('operation=update'), sorted(update))
  assert.deepEqual(await ids('effect=write'), sorted(update))
  assert.deepEqual(await ids('table=public.customers&verdict=deny'), sorted(update))
  assert.deepEqual(await ids('database=shop&text=id+%3D+6'), sorted(six))
  const [row] = await search('table=orders')
  assert.deepEqual([row?.result, row?.facts?.user], [{ rows: 3, ms: 1 }, 'reader'])
  const fingerprint = (await search('table=public.customers&operation=select'))[0]?.facts?.fingerprint
  assert.deepEqual(await ids(`fingerprint=${fingerprint}`), sorted(five, six))
})

test('a statement over hundreds of tables is recorded whole beside its leaf, and judged again from there', async (t) => {
  const { statement, ruleFor, ask, dana } = await analyst(t)
  const tables = Array.from({ length: 300 }, (_, i) => `public.a_table_with_a_long_name_${i}`)
  const id = await statement(`select 1 from ${tables.join(', ')}`)
  const { value } = await ask<AuditDetail>(dana, 'GET', `/v1/audit/records/${id}`)
  const { facts } = (value.envelope as { action: { facts: { more: number; tables: { read: string[] } } } }).action
  assert.ok(facts.more >= 292 && facts.tables.read.length === 8, JSON.stringify(facts))
  assert.equal((await ruleFor(id)).withDraft?.reason, 'denied_by_rule')
})
