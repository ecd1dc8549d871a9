import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { compilePolicy } from '../../policy/compile.ts'
import { decide } from '../../policy/decide.ts'
import { demandsOf } from '../../policy/demands.ts'
import type { Action, Section, Variables } from '../../policy/types.ts'
import { anyMaskAction, connectAction, describeSql, mayWriteAction, type SqlContext, statementAction } from './describe.ts'
import { cannotKeep, postgresVocabulary } from './rules.ts'
import { loadParser } from './sql/parse.ts'

before(() => loadParser())

const place = { resource: { kind: 'postgres', id: 'res', name: 'prod', labels: {} }, database: 'shop', user: 'ro' }
const variables: Variables = {
  identity: { id: 'agt', kind: 'agent', name: 'bot', traits: { team: 'sales' }, roles: [] },
  session: { id: 'ses', startedAt: 0, how: 'test' },
  now: 0,
}
const CONTEXT: SqlContext = { path: ['pg_catalog', 'public'], ceilings: {} }

const action = (sql: string, context = CONTEXT): Action => statementAction(place, describeSql(sql, context)[0]!, context)

function matches(section: Section, rule: Record<string, unknown>, asked: Action | string): boolean {
  const fields = postgresVocabulary.fields.strict().parse(section === 'deny' ? rule : { databases: ['shop'], as: 'ro', ...rule })
  return postgresVocabulary.compile(fields, section)(typeof asked === 'string' ? action(asked) : asked, variables)
}
const allows = (rule: Record<string, unknown>, asked: Action | string) => matches('allow', rule, asked)

test('can: every effect of the statement must be among them', () => {
  assert.ok(allows({ can: 'read' }, 'select * from t'))
  assert.ok(!allows({ can: 'read' }, 'insert into t values (1)'))
  assert.ok(allows({ can: ['read', 'write'] }, 'update t set x = 1 where id = 2'))
  assert.ok(!allows({ can: ['read', 'write'] }, 'delete from t'))
  assert.ok(allows({ can: 'any' }, 'drop table t'))
})

test('statements: every kind must be named, and nothing beyond what such a statement does', () => {
  assert.ok(allows({ statements: ['select'] }, 'select * from t'))
  assert.ok(!allows({ statements: ['select'] }, 'with d as (delete from t where id = 1 returning 1) select * from d'))
  assert.ok(!allows({ statements: ['select'] }, 'select pg_terminate_backend(1)'))
  assert.ok(!allows({ statements: ['select'] }, 'select my_function()'))
  assert.ok(allows({ statements: ['select', 'delete'] }, 'with d as (delete from t where id = 1 returning 1) select * from d'))
  assert.ok(allows({ statements: ['update'] }, 'update t set x = 1 where id = 2'))
  assert.ok(!allows({ statements: ['explain'] }, 'explain analyze delete from t where id = 1'))
  assert.ok(allows({ statements: ['ddl'] }, 'alter table t add column x int'))
  assert.ok(allows({ statements: ['select'] }, 'declare c cursor for select * from t'))
  assert.ok(!allows({ statements: ['insert'] }, 'declare c cursor for select * from t'))
})

test('transactions and harmless settings come along with anything that is allowed, never what undoes a fence', () => {
  for (const rule of [{ can: 'read' }, { statements: ['select'] }, { can: 'read', tables: ['public.t'] }]) {
    for (const sql of [
      'begin',
      'commit',
      'rollback to a',
      "set datestyle = 'ISO'",
      'show all',
      'deallocate all',
      'close c',
      'reset all',
      'discard all',
      'set search_path = a',
    ])
      assert.ok(allows(rule, sql), sql)
    for (const sql of ['begin read write', 'set role x', 'set default_transaction_read_only = off']) assert.ok(!allows(rule, sql), sql)
  }
})

test('tables: all of them in allow, one of them in ask and deny', () => {
  const rule = { can: 'any', tables: ['public.a*'] }
  assert.ok(allows(rule, 'select * from public.a1, a2'))
  assert.ok(!allows(rule, 'select * from a1, b'))
  assert.ok(!allows(rule, 'insert into b select * from a1'))
  assert.ok(allows(rule, 'select * from a1 join pg_class on true'))
  assert.ok(!allows(rule, 'select * from a1, pg_stats'))
  assert.ok(!allows(rule, 'select my_function(), 1 from a1'))
  assert.ok(!allows(rule, 'drop table a1 cascade'))
  assert.ok(allows(rule, 'drop table a1'))
  for (const section of ['deny', 'ask'] as const) {
    assert.ok(matches(section, { can: 'any', tables: ['public.secret'] }, 'select * from a1, secret'))
    assert.ok(matches(section, { can: 'any', tables: ['public.secret'] }, 'select my_function()'))
    assert.ok(!matches(section, { can: 'any', tables: ['public.secret'] }, 'select * from a1'))
    assert.ok(!matches(section, { can: 'any', tables: ['public.secret'] }, 'begin'))
  }
})

test('a name without a schema matches only when every schema of a known path would', () => {
  const two: SqlContext = { path: ['pg_catalog', 'ro', 'public'], ceilings: {} }
  const none: SqlContext = { path: undefined, ceilings: {} }
  const rule = { can: 'read', tables: ['public.*'] }
  assert.ok(allows(rule, action('select * from a')))
  assert.ok(!allows(rule, action('select * from a', two)))
  assert.ok(allows({ can: 'read', tables: ['public.*', 'ro.*'] }, action('select * from a', two)))
  assert.ok(!allows(rule, action('select * from a', none)))
  assert.ok(allows(rule, action('select * from public.a', none)))
  assert.ok(matches('deny', { tables: ['public.a'] }, action('select * from a', none)))
})

test('an exception cannot be evaded by wrapping the statement into another one', () => {
  for (const section of ['ask', 'deny'] as const) {
    for (const sql of [
      'update t set x = 1 where id = 1',
      'with u as (update t set x = 1 where id = 1 returning 1) select * from u',
      'explain analyze update t set x = 1 where id = 1',
      'copy (update t set x = 1 where id = 1 returning 1) to stdout',
      'insert into t values (1) on conflict (id) do update set x = 1',
    ]) {
      assert.ok(matches(section, { statements: ['update'] }, sql), sql)
    }
    assert.ok(!matches(section, { statements: ['update'] }, 'select 1'))
    assert.ok(!matches(section, { statements: ['update'] }, connectAction(place)))
  }
})

test('databases and users must be written in allow and ask; in deny what is left out means everything', () => {
  for (const rule of [{ can: 'read' }, { can: 'read', databases: ['shop'] }, { can: 'read', as: 'ro' }]) {
    assert.throws(() => postgresVocabulary.compile(rule, 'allow'), { code: 'invalid_document' })
    assert.throws(() => postgresVocabulary.compile(rule, 'ask'), { code: 'invalid_document' })
  }
  assert.ok(matches('deny', {}, 'select 1'))
  assert.ok(matches('deny', {}, connectAction(place)))
  assert.ok(matches('deny', { databases: ['shop'] }, 'begin'))
  assert.ok(!matches('deny', { databases: ['other'] }, 'select 1'))
  assert.ok(!allows({ can: 'read', as: 'rw' }, 'select 1'))
  assert.ok(allows({ can: 'read', as: ['{{identity.name}}', 'r?'] }, 'select 1'))
  assert.throws(() => postgresVocabulary.fields.strict().parse({ statements: ['slect'] }))
})

test('a connection is allowed by any rule for its database and user; whether it could ever write is asked beside it', () => {
  for (const rule of [{ can: 'read' }, { statements: ['select'] }, { can: 'read', tables: ['public.a'] }]) {
    assert.ok(allows(rule, connectAction(place)))
    assert.ok(!allows(rule, mayWriteAction(place)))
  }
  for (const rule of [{ can: 'any' }, { statements: ['update'] }, { can: ['read', 'write'] }, { statements: 'any' }])
    assert.ok(allows(rule, mayWriteAction(place)))
  assert.ok(!matches('deny', { tables: ['public.a'] }, mayWriteAction(place)))
})

test('obligations: what cannot be kept for a statement says so', () => {
  assert.equal(cannotKeep({ max_rows: 1 }, action('select * from t')), undefined)
  assert.equal(cannotKeep({ max_rows: 1 }, action('copy t to stdout')), undefined)
  assert.equal(cannotKeep({ max_rows: 1 }, action("copy t to program 'x'"))?.code, 'obligation_unsupported')
  assert.equal(cannotKeep({ require_where: true }, action('delete from t'))?.code, 'obligation_unsupported')
  assert.equal(cannotKeep({ require_where: true }, action('delete from t where id = 1')), undefined)
  // masks/keeper.ts says what of a mask cannot be kept; unquoted, YAML reads null as null
  const rule = { mask: { 'public.t.x': null, 'public.*.y': 'last4' } }
  assert.ok(postgresVocabulary.fields.safeParse(rule).success)
  for (const key of ['x', 't.x', 'db.public.t.x', 'public..x'])
    assert.ok(!postgresVocabulary.fields.safeParse({ mask: { [key]: 'null' } }).success, key)
  assert.equal(cannotKeep({ mask: { 'public.t.x': 'null' } }, action('select * from t')), undefined)
  assert.equal(cannotKeep({ something_new: 1 }, action('select 1'))?.code, 'obligation_unsupported')
})

test('obligations merge to the least binding among rules, and to the most binding over guardrails and links', () => {
  const { max_rows: rows, require_where: where, statement_timeout: time, mask } = postgresVocabulary.obligations
  assert.deepEqual([rows!.least(1, 5), rows!.most(1, 5)], [5, 1])
  assert.deepEqual([where!.least(true, false), where!.most(true, false)], [false, true])
  assert.deepEqual([time!.least('30s', '1m'), time!.most('30s', '1m')], ['1m', '30s'])
  assert.deepEqual(mask!.least({ 's.t.a': 'null', 's.t.b': 'hash' }, { 's.t.b': 'hash' }), { 's.t.b': 'hash' })
  assert.deepEqual(mask!.most({ 's.t.a': 'last4' }, { 's.t.a': 'hash', 's.t.b': 'fixed' }), { 's.t.a': 'null', 's.t.b': 'fixed' })
})

test('what rules could demand of a connection is found in every link, role and guardrail, whatever the verdict and before arguments are known', () => {
  const mask = (name: string) => ({ [`public.${name}.email`]: 'null' })
  const role = (name: string, section: 'allow' | 'ask', more: object) => ({
    name,
    spec: { [section]: [{ postgres: 'any', databases: 'any', as: 'any', can: 'read', mask: mask(name), ...more }] },
  })
  const policy = compilePolicy(
    {
      roles: [
        role('plain', 'allow', { tables: ['public.a'], statements: ['select'] }),
        { name: 'open', spec: { allow: [{ postgres: 'any', databases: 'any', as: 'any', can: 'any' }] } },
        role('asking', 'ask', {}),
        role('reading', 'allow', { where: "args.tables.exists(t, t == 'public.a')" }),
        role('elsewhere', 'allow', { databases: ['other'] }),
        role('nobody', 'allow', {}),
      ],
      guardrails: [{ name: 'rail', spec: { limit: [{ postgres: 'any', tables: ['public.b'], mask: mask('rail') }] } }],
    },
    [postgresVocabulary],
  )
  const link = (...roles: string[]) => ({ identity: { id: 'agt', kind: 'agent' as const, name: 'x', traits: {}, roles } })
  const asked = anyMaskAction(place)
  const session = { id: 'ses', startedAt: 0, how: 'test' }
  const demanded = (...links: ReturnType<typeof link>[]) =>
    demandsOf(policy, { links, session, action: asked, now: 0 }, 'mask').map((found) => Object.keys(found as object)[0]!.split('.')[1])
  assert.deepEqual(demanded(link('open', 'plain', 'elsewhere')), ['plain', 'rail'])
  assert.deepEqual(demanded(link('asking', 'reading'), link('open')).sort(), ['asking', 'rail', 'rail', 'reading'])
  assert.deepEqual(demanded(link('open')), ['rail'])
})

test('who may do nothing but ask can connect and begin, and everything else of his is a question or refused', () => {
  const ask = (spec: Record<string, unknown>) => {
    const policy = compilePolicy({ roles: [{ name: 'r', spec }], guardrails: [] }, [postgresVocabulary])
    const links = [{ identity: { id: 'agt', kind: 'agent' as const, name: 'bot', traits: {}, roles: ['r'] } }]
    const session = { id: 'ses', startedAt: 0, how: 'test' }
    return (action: Action) => decide(policy, { links, action, now: 0, session })
  }
  const rule = { postgres: 'prod', databases: ['shop'], as: 'ro', statements: ['update'], tables: ['public.t'], where: "args.user == 'ro'" }
  const asked = ask({ ask: [rule] })
  assert.equal(asked(connectAction(place)).verdict, 'allow')
  assert.equal(asked(action("set datestyle = 'ISO'")).verdict, 'allow')
  assert.equal(asked(action('update public.t set x = 1')).verdict, 'ask')
  assert.equal(asked(action('select * from public.t')).verdict, 'deny')
  assert.equal(asked(action('drop table public.t')).verdict, 'deny')
  assert.equal(asked(connectAction({ ...place, user: 'rw' })).verdict, 'deny', 'as another database user')
  assert.equal(asked(connectAction({ ...place, database: 'other' })).verdict, 'deny')
  assert.equal(ask({ ask: [{ ...rule, shadow: true }] })(connectAction(place)).verdict, 'deny', 'what decides nothing opens nothing')
  assert.equal(ask({ ask: [rule], deny: [{ postgres: 'prod', statements: ['connect'] }] })(connectAction(place)).verdict, 'deny')
})
