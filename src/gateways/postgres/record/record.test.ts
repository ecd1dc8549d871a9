import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import type { Action } from '../../../policy/types.ts'
import { describeSql, ORDINARY, type PostgresFacts, statementAction } from '../describe.ts'
import { postgresVocabulary } from '../rules.ts'
import { loadParser } from '../sql/parse.ts'
import { recalledFacts, recordedFacts } from './facts.ts'
import { type Keeping, statementBodies } from './keep.ts'

const resource = { kind: 'postgres', id: 'res_1', name: 'prod', labels: {} }
const KEY = Buffer.alloc(32, 1)

const actionOf = (sql: string, keeping?: Keeping) =>
  statementAction({ resource, database: 'shop', user: 'reader', ...(keeping ? { keeping } : {}) }, describeSql(sql)[0]!, ORDINARY)

const texts = (bodies: readonly { readonly name: string; readonly bytes: string | Uint8Array }[] = []) =>
  new Map(bodies.map(({ name, bytes }) => [name, String(bytes)]))

function recalled(action: Action) {
  const { facts, bodies } = recordedFacts(action)
  return recalledFacts({ operation: action.operation, facts: JSON.parse(JSON.stringify(facts)), texts: texts(bodies) }) as unknown as PostgresFacts
}

describe('what the record keeps of a statement', () => {
  before(loadParser)

  const name = fc.stringMatching(/^[a-z"*. ]{1,40}$/)
  const names = fc.array(name, { maxLength: 200 })
  const facts: fc.Arbitrary<PostgresFacts> = fc.record(
    {
      database: name,
      user: name,
      statements: fc.array(fc.constantFrom('select', 'update', 'drop'), { maxLength: 3 }),
      tables: fc.record({ read: names, written: names }),
      functions: names,
      settings: fc.array(name, { maxLength: 3 }),
      opaque: fc.boolean(),
      every_row: fc.boolean(),
      behind: names,
      columns: fc.record({ read: names, written: names }),
      fingerprint: fc.constant('0123456789abcdef'),
      path: fc.constant(['pg_catalog', 'public']),
    },
    { requiredKeys: ['database', 'user', 'statements', 'tables', 'functions', 'settings', 'opaque', 'every_row'] },
  ) as fc.Arbitrary<PostgresFacts>

  it('is enough for every rule to judge it again as it was judged, and never over 8 KiB in the leaf', () => {
    const globs = fc.constantFrom('a*', 'public.*', 'any', '*b*')
    const rule = fc.record(
      { tables: globs, statements: fc.constantFrom(['select'], ['update'], 'any'), can: fc.constantFrom('read', 'any') },
      { requiredKeys: ['can'] },
    )
    fc.assert(
      fc.property(facts, rule, fc.constantFrom('allow' as const, 'ask' as const, 'deny' as const), (given, fields, section) => {
        const action: Action = { kind: 'postgres', resource, operation: 'select', effects: ['read'], facts: { ...given }, summary: '' }
        const matcher = postgresVocabulary.compile({ databases: 'any', as: 'any', ...fields }, section)
        const variables = {
          identity: { id: 'i', kind: 'agent' as const, name: 'i', traits: {}, roles: [] },
          session: { id: 's', startedAt: 0, how: '' },
          now: 0,
        }
        const again = { ...action, facts: { ...recalled(action) } }
        assert.equal(matcher(again, variables), matcher(action, variables))
        assert.ok(JSON.stringify(recordedFacts(action).facts).length < 8192)
      }),
      { numRuns: 300 },
    )
  })

  it('is exactly the facts for ordinary statements', () => {
    for (const sql of ['select 1', 'select a from public.b', 'update b set a = 1', 'begin', 'set search_path to x', 'drop table x', 'select f(1)']) {
      const action = actionOf(sql)
      const { path, ...given } = action.facts as unknown as PostgresFacts
      const { path: _, ...again } = recalled(action)
      assert.deepEqual(again, given, sql)
    }
  })

  it('is unknown where the whole list lay in a body that is gone', () => {
    const action = actionOf(`select 1 from ${Array.from({ length: 400 }, (_, i) => `public.the_table_number_${i}`).join()}`)
    const { facts } = recordedFacts(action)
    assert.equal(recalledFacts({ operation: 'select', facts, texts: new Map() }), undefined)
    assert.equal(recalledFacts({ operation: 'select', facts: { cut: { size: 1, sha256: '' }, head: '' }, texts: new Map() }), undefined)
  })

  it('quotes no value in the reason why nothing may allow it, where values are not kept', () => {
    const keeping: Keeping = { parameters: 'none', key: KEY }
    assert.match(actionOf("selekt 'hunter2'").unclear ?? '', /cannot be parsed/)
    const recorded = recordedFacts(actionOf("selekt 'hunter2'", keeping))
    assert.doesNotMatch(JSON.stringify(recorded), /selekt|hunter2/)
    assert.match(String(recorded.unclear), /not recorded here/)
    assert.deepEqual(
      recordedFacts(actionOf("select set_config('hunter2', 'x', false), set_config('search_path', 'x', true)", keeping)).facts.settings,
      ['?', 'search_path'],
    )
  })
})

describe('the bodies of a statement', () => {
  before(loadParser)
  const sql = "select 'a', 'b' from t where x = $1 -- note"
  const bodies = (parameters: Keeping['parameters'] | undefined, text = sql, values = '["a",null,{"base64":"AA=="}]') =>
    Object.fromEntries(texts(statementBodies(parameters && { parameters, key: KEY }, text, values, describeSql(text)[0]!)))

  it('are the text and the values as they came, when nothing else is said', () => {
    assert.deepEqual(bodies(undefined), { statement: sql, parameters: '["a",null,{"base64":"AA=="}]' })
    assert.deepEqual(bodies('full', sql, ''), { statement: sql })
  })

  it('have no value with `none`', () => {
    assert.deepEqual(bodies('none'), { statement: 'select ?, ? from t where x = $1  ' })
  })

  it('have keyed hashes with `hashed`: equal values look equal, NULL stays NULL', () => {
    const { statement, constants, parameters } = bodies('hashed')
    assert.equal(statement, 'select ?, ? from t where x = $1  ')
    const [a, b] = JSON.parse(constants!) as string[]
    assert.match(a!, /^hmac:[0-9a-f]{32}$/)
    assert.notEqual(a, b)
    const [first, second, third] = JSON.parse(parameters!) as (string | null)[]
    assert.equal(second, null)
    assert.match(String(third), /^hmac:/)
    assert.equal(first, (JSON.parse(bodies('hashed', sql, '["a"]').parameters!) as string[])[0])
    const other = statementBodies({ parameters: 'hashed', key: Buffer.alloc(32, 2) }, sql, '["a"]', {})
    assert.notEqual((JSON.parse(texts(other).get('parameters')!) as string[])[0], first)
  })

  it('are not kept of a text that cannot be parsed, where values are not', () => {
    const sql = "selec 'secret'"
    for (const parameters of ['none', 'hashed'] as const)
      assert.deepEqual(statementBodies({ parameters, key: KEY }, sql, '["secret"]', describeSql(sql)[0]!), [
        { name: 'statement', bytes: '(a text of 14 bytes that cannot be parsed; values are not recorded here)' },
      ])
  })

  it('count hashes beyond a thousand', () => {
    const { constants } = bodies('hashed', `select ${Array.from({ length: 1500 }, (_, i) => i).join()}`, '')
    assert.deepEqual((JSON.parse(constants!) as unknown[]).slice(1000), [{ more: 500 }])
  })
})
