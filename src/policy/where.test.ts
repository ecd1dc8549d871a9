import assert from 'node:assert/strict'
import { test } from 'node:test'
import { identityOf, questionOf } from './vocabulary.fixture.ts'
import { compileWhere, whereScope } from './where.ts'

const boris = identityOf('boris', { ownerId: 'usr_dana', roles: ['dev'], traits: { team: 'red', level: 3 } })
const scope = (args: Record<string, unknown> = {}) => whereScope(questionOf([{ identity: boris }], { labels: { env: 'prod' } }), boris, args)

test('where reads identity, resource, args, session and time', () => {
  const all = [
    'identity.name == "boris" && identity.kind == "user" && "dev" in identity.roles && identity.ownerId == "usr_dana"',
    'identity.traits.team == "red" && identity.traits.level >= 3',
    'resource.name == "files" && resource.labels.env == "prod"',
    'session.how == "login" && time > session.startedAt && time.getHours("Europe/Berlin") == 10',
    'args.list.all(x, x < 3) && args.text.startsWith("a") && size(args.list) == 2',
    '!has(session.purpose) && !has(args.other) && !("other" in args)',
  ]
  for (const text of all) assert.equal(compileWhere(text).test(scope({ list: [1, 2], text: 'abc' })), true, text)
})

test('where: what cannot work is found when it is loaded (peers R29)', () => {
  const faults: [string, RegExp][] = [
    ['args.x ==', /not valid/],
    ['identity.nmae == "x"', /nmae/],
    ['user.name == "x"', /user/],
    ['identity.name == 5', /string == int/],
    ['1 + 2', /gives int/],
    ['identity.name', /gives string/],
    ['args.x.matches("a+")', /matches\(\) is not available/],
    ['cel.bind(x, args.a, x == 1)', /bind\(\) is not available/],
    ['args.a.all(x, args.b.exists(y, x == y))', /inside another loop/],
    [`args.x == "${'a'.repeat(3000)}"`, /over 2000/],
    [Array.from({ length: 200 }, () => 'args.x').join(' == '), /not valid/],
  ]
  for (const [text, message] of faults) assert.throws(() => compileWhere(text), { code: 'invalid_document', message }, text.slice(0, 60))
})

test('rule 1: where throws on what is missing, of the wrong type, or no boolean', () => {
  for (const text of ['args.missing == 1', 'args.text > 3', 'args.text', 'args.list[9] == 1', 'identity.traits.none == "x"']) {
    assert.throws(() => compileWhere(text).test(scope({ text: 'a', list: [] })), Error, text)
  }
})

test('where: an argument named like a part of JavaScript tells nothing and opens nothing', () => {
  const tricky = JSON.parse('{"constructor": "Map", "text": "a", "inner": {"constructor": {"x": 1}}}') as Record<string, unknown>
  assert.equal(compileWhere('args.text == "b"').test(scope(tricky)), false)
  assert.equal(compileWhere('args.text == "a" && args.constructor == "Map" && args.inner.constructor.x == 1').test(scope(tricky)), true)
  assert.throws(() => compileWhere('args.inner.x == 1').test(scope(tricky)))
  assert.throws(() => compileWhere('args.toString == "x"').test(scope()))
})

test('where knows whether it reads time or session', () => {
  assert.equal(compileWhere('args.x == 1').readsTimeOrSession, false)
  assert.equal(compileWhere('args.x == 1 || time > timestamp("2026-01-01T00:00:00Z")').readsTimeOrSession, true)
  assert.equal(compileWhere('has(session.purpose)').readsTimeOrSession, true)
})
