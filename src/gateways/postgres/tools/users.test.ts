import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import { matchGlob, parseGlob } from '../../../encoding/glob.ts'
import { databaseTools } from './databases.ts'
import { anybody, userOf, usersOf } from './users.ts'

/** As a guard with these words after `as` would answer. */
const allowing =
  (...words: string[]) =>
  (user: string) =>
    words.some((word) => word === 'any' || matchGlob(parseGlob(word), user))

test('the default is the first user of the document that one may connect as', () => {
  const users = usersOf(['owner', 'analyst', 'reader'], ['any'], allowing('reader', 'analyst'))
  assert.deepEqual(users, { names: ['analyst', 'reader'], patterns: [], preset: 'analyst' })
  assert.equal(userOf(users, undefined), 'analyst')
  assert.equal(userOf(users, 'owner'), 'owner')
})

test('without users in the document it is the only one whom the rules name', () => {
  assert.equal(usersOf(undefined, ['reader', 'app_*', 'reader'], allowing('reader')).preset, 'reader')
  assert.equal(usersOf(undefined, ['reader', 'writer'], allowing('any')).preset, undefined)
})

test('rule 8: whom one may not connect as is never named', () => {
  const users = usersOf(undefined, ['reader', 'writer', 'root'], allowing('reader', 'writer'))
  assert.throws(() => userOf(users, undefined), { fix: 'Say it with `as`: reader, writer.' })
  assert.equal(anybody(usersOf(['root'], ['any'], allowing('reader'))), false)
})

test('a pattern is one of its own users, and makes the database visible without naming anybody', () => {
  const users = usersOf(undefined, ['app_*', 'any', 'old_?'], allowing('app_*'))
  assert.deepEqual(users, { names: [], patterns: ['app_*'], preset: undefined })
  assert.equal(anybody(users), true)
  assert.throws(() => userOf(users, undefined), /is not said/)
})

test('rule 8: there are tools for the databases of a document, when it offers them, and for nobody who may not connect', () => {
  const resource = { kind: 'postgres', id: 'res_1', name: 'prod', labels: {} }
  const serve = (spec: object, verdict = 'allow') => {
    const found = { resource, spec: { address: 'db:5432', databases: ['shop'], users: ['reader'], ...spec } }
    return databaseTools({
      guard: { judge: () => ({ verdict, reason: 'no_rule', obligations: {} }) as never },
      resources: { find: (_, name) => (name === 'prod' ? found : undefined), list: () => [found], revision: 1 },
      clock: manualClock(0),
      enter: () => assert.fail('nobody came in'),
      usersNamed: () => [],
    })
  }
  const session = {} as never
  const shown = (of: ReturnType<typeof serve>, name = 'prod/shop') => [of.find(session, name)?.resource.name, of.list(session).length]
  assert.deepEqual(shown(serve({})), ['prod/shop', 1])
  assert.deepEqual(shown(serve({}), 'prod/postgres'), [undefined, 1])
  assert.deepEqual(shown(serve({}), 'other/shop'), [undefined, 1])
  assert.deepEqual(shown(serve({ mcp: false })), [undefined, 0])
  assert.deepEqual(shown(serve({}, 'deny')), [undefined, 0])
})
