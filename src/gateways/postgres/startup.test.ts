import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readOptions } from './options.ts'
import { readStartup } from './startup.ts'

const start = (parameters: Record<string, string>, minor = 0) =>
  readStartup(new Map(Object.entries({ user: 'reader', database: 'prod/shop', ...parameters })), minor, undefined)

test('options are read as the server reads them, in every form that clients send', () => {
  for (const [options, expected] of [
    ['-c search_path=app', [['search_path', 'app']]],
    ['-csearch_path=app', [['search_path', 'app']]],
    ['--search-path=app', [['search_path', 'app']]],
    [
      '  -c  statement_timeout=5s\t--TimeZone=UTC\n',
      [
        ['statement_timeout', '5s'],
        ['timezone', 'UTC'],
      ],
    ],
    [
      '-c search_path=app,\\ public -c geqo=off',
      [
        ['search_path', 'app, public'],
        ['geqo', 'off'],
      ],
    ],
    ['-c search_path="a\\\\b"', [['search_path', '"a\\b"']]],
    ['-c search_path=', [['search_path', '']]],
    ['-c search_path=a=b', [['search_path', 'a=b']]],
    ['-c geqo=off\\', [['geqo', 'off']]],
    ['', []],
    ['   ', []],
  ] as const) {
    assert.deepEqual(readOptions(options), expected, options)
  }
  for (const options of ['-c', '-c search_path', '-c =x', '-e', '-d 5', '--', '-- x', 'x', '-W 10', '-o -x', '-S 64', '-fs', '-B5', '\\-c x'])
    assert.throws(() => readOptions(options), { code: 'unsupported' }, options)
})

test('whatever options hold, they give settings or a ChaperoneError, and every setting was written there', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('-', 'c', ' ', '\\', '=', 'a', 'Z', '_', '\t', '"', ',') }), (options) => {
      try {
        for (const [name, value] of readOptions(options)) {
          assert.match(name, /^[^=-]/)
          for (const character of value) assert.ok(options.includes(character))
        }
      } catch (error) {
        assert.equal((error as { code: string }).code, 'unsupported')
      }
    }),
  )
})

test('options that are written for a setting give that setting back, whatever its value', () => {
  const escaped = (text: string) => text.replace(/[\s\\]/g, (character) => `\\${character}`)
  fc.assert(
    fc.property(fc.constantFrom('search_path', 'geqo', 'timezone'), fc.string(), fc.constantFrom('-c ', '-c', '--'), (name, value, form) => {
      assert.deepEqual(readOptions(`-c jit=off ${form}${name}=${escaped(value)} --geqo=on`), [
        ['jit', 'off'],
        [name, value],
        ['geqo', 'on'],
      ])
    }),
  )
})

test('what stands in options is judged as a parameter of its own', () => {
  assert.deepEqual(start({ options: '-c search_path=app,public -c jit=off', DateStyle: 'ISO' }).settings, {
    datestyle: 'ISO',
    search_path: 'app,public',
    jit: 'off',
  })
  // A parameter of its own wins, as on the server.
  assert.deepEqual(start({ options: '-c search_path=evil', search_path: 'app' }).settings, { search_path: 'app' })
  assert.deepEqual(start({ options: '-c statement_timeout=5s' }).times, [['statement_timeout', '5s']])
  assert.deepEqual(start({ default_transaction_read_only: 'on', application_name: 'x', client_encoding: "'utf-8'" }).settings, {
    default_transaction_read_only: 'on',
  })
  for (const [name, value] of [
    ['options', '-c default_transaction_read_only=off'],
    ['options', '--default-transaction-read-only=off'],
    ['options', '-c row_security=off'],
    ['options', '-c role=root'],
    ['options', '-c session_authorization=root'],
    ['options', '-c standard_conforming_strings=off'],
    ['options', '-c client_encoding=SJIS'],
    ['options', '-c chaperone.identity=usr_dana'],
    ['options', '-c log_statement=none'],
    ['role', 'root'],
    ['replication', 'database'],
    ['replication', 'false'],
    ['session_preload_libraries', 'x'],
    ['transaction_read_only', 'on'],
    ['chaperone.session', 'x'],
  ] as const)
    assert.throws(() => start({ [name]: value }), { code: 'unsupported' }, `${name}=${value}`)
  assert.throws(() => start({ TimeZone: 'UTC', timezone: 'CET' }), { code: 'ambiguous' })
  assert.throws(() => start({ Options: '-c jit=off' }), { code: 'ambiguous' })
})

test('what is not named is not filled in by anybody', () => {
  for (const [more, what] of [
    [{ user: '' }, /The user is not named/],
    [{ database: '' }, /The database is not named/],
    [{ database: 'prod/' }, /The database is not named/],
    [{ database: '/shop' }, /The resource is not named/],
  ] as const)
    assert.throws(() => start(more), what)
})

test('the version that is spoken is the newest that both know', () => {
  const negotiated = (minor: number, more = {}) => {
    const { negotiate, longKeys } = start(more, minor)
    return [negotiate?.minor, longKeys]
  }
  assert.deepEqual(negotiated(0), [undefined, false])
  assert.deepEqual(negotiated(2), [undefined, true])
  assert.deepEqual(negotiated(1), [0, false])
  assert.deepEqual(negotiated(9999), [2, true])
  assert.deepEqual(negotiated(2, { '_pq_.compression': 'on' }), [2, true])
  assert.deepEqual(start({ '_pq_.compression': 'on' }).negotiate?.unknownOptions, ['_pq_.compression'])
})

test('rule 8: a name with a slash is RESOURCE/DATABASE whatever the TLS handshake names, so that nothing tells which resources there are', () => {
  const led = (database: string, serverName?: string) => {
    const { resource, database: name } = readStartup(new Map(Object.entries({ user: 'reader', database })), 0, serverName)
    return `${resource} ${name}`
  }
  assert.equal(led('hidden/shop', 'prod.localhost'), 'hidden shop')
  assert.equal(led('prod/shop', 'hidden.localhost'), 'prod shop')
  assert.equal(led('prod/a/b', 'prod.localhost'), 'prod a/b')
  assert.equal(led('shop', 'prod.localhost'), 'prod shop')
})
