import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { EFFECTS } from '../../../policy/types.ts'
import { describeSql, type SqlContext } from '../describe.ts'
import { makeMirror } from '../mirror/make.ts'
import type { Relation, Routine, UserType } from '../mirror/types.ts'
import { loadParser } from './parse.ts'

/** Databases as no server would let one make them, or only with much work: what cannot be read must count as anything. */

before(() => loadParser())

let oids = 20_000
const relation = (name: string, more: Partial<Relation> = {}): Relation => ({
  oid: ++oids,
  schema: 'public',
  name,
  kind: 'table',
  columns: [{ attnum: 1, name: 'id', type: 23 }],
  policies: [],
  children: [],
  parents: [],
  hasTriggers: false,
  hasRules: false,
  uniques: [],
  references: [],
  ...more,
})
const view = (name: string, definition: string) => relation(name, { kind: 'view', definition })
const routine: Routine = {
  schema: 'app',
  name: 'boom',
  kind: 'function',
  volatility: 'volatile',
  securityDefiner: false,
  language: 'sql',
  takes: [],
}

function contextOf(relations: readonly Relation[], types: readonly UserType[] = []): SqlContext {
  const mirror = makeMirror({
    serverVersion: 180_000,
    relations,
    routines: [routine],
    types,
    systemFunctions: ['set_config', 'lower'],
  })
  return { path: ['pg_catalog', 'public'], ceilings: {}, mirror }
}
const one = (sql: string, context: SqlContext) => describeSql(sql, context)[0]!
const isAnything = (sql: string, context: SqlContext) => {
  const { effects, opaque } = one(sql, context)
  assert.deepEqual([effects, opaque], [EFFECTS, true], sql)
}

test('rule 1: a view that cannot be followed may do anything', () => {
  const context = contextOf([
    relation('t'),
    relation('bare', { kind: 'view' }),
    view('broken', 'SELECT FROM WHERE'),
    view('two', 'SELECT 1; SELECT 2'),
    view('unclear', "SELECT set_config(lower('x'), '1', false)"),
    view('long', `SELECT '${'x'.repeat(70_000)}'`),
    view('fine', 'SELECT id FROM public.t'),
  ])
  for (const name of ['bare', 'broken', 'two', 'unclear', 'long']) isAnything(`select * from ${name}`, context)
  assert.deepEqual(one('select * from fine', context).effects, ['read'])
  assert.deepEqual(one('select * from fine', context).behind, ['public.t'])
})

test('rule 11: only so many definitions are read for one statement, and so deep; what lies beyond may do anything', () => {
  const deep = contextOf([relation('t'), view('v0', 'SELECT id FROM public.t'), ...chain(30)])
  assert.deepEqual(one('select * from v20', deep).effects, ['read'])
  isAnything('select * from v30', contextOf([relation('t'), view('v0', 'SELECT id FROM public.t'), ...chain(30)]))
  const wide = Array.from({ length: 400 }, (_, i) => view(`w${i}`, 'SELECT id FROM public.t'))
  isAnything(`select 1 from ${wide.map(({ name }) => name).join()}`, contextOf([relation('t'), ...wide]))
})
const chain = (n: number) => Array.from({ length: n }, (_, i) => view(`v${i + 1}`, `SELECT id FROM public.v${i}`))

test('what was read inside a circle was not read whole, and is not remembered so', () => {
  const context = contextOf([
    relation('a', { policies: ['(EXISTS (SELECT FROM public.b))', 'app.boom() > 0'] }),
    relation('b', { policies: ['(EXISTS (SELECT FROM public.a))'] }),
  ])
  isAnything('select * from a', context)
  isAnything('select * from b', context)
})

test('a rewrite rule makes a write anything; a foreign table reaches out, also as a partition', () => {
  const far = relation('far', { kind: 'foreign table' })
  const context = contextOf([relation('ruled', { hasRules: true }), far, relation('parts', { kind: 'partitioned table', children: [far.oid] })])
  isAnything('insert into ruled values (1)', context)
  assert.deepEqual(one('select * from ruled', context).effects, ['read'])
  for (const name of ['far', 'parts']) {
    const { effects, opaque } = one(`select * from ${name}`, context)
    assert.deepEqual([effects, opaque], [['read', 'egress'], true], name)
  }
})

test('more partitions than are named make a statement opaque', () => {
  const parts = Array.from({ length: 1_001 }, (_, i) => relation(`p${i}`))
  const { behind, opaque } = one('select * from parted', contextOf([...parts, relation('parted', { children: parts.map(({ oid }) => oid) })]))
  assert.deepEqual([behind.length, opaque], [1_000, true])
})

test('a value that becomes one of a type runs what reads its text, when that is no trusted code', () => {
  const input = (name: string, more: Partial<Routine> = {}): UserType => ({
    schema: 'app',
    name,
    oid: ++oids,
    kind: 'base',
    runs: [{ ...routine, ...more }],
    checks: [],
    parts: [],
  })
  const context = contextOf(
    [],
    [input('scripted'), input('careless', { language: 'c' }), input('trusted', { language: 'c', volatility: 'immutable' })],
  )
  isAnything("select '1'::app.scripted", context)
  isAnything("select '1'::app.careless", context)
  assert.deepEqual(one("select '1'::app.trusted", context).effects, ['read'])
})
