import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { chaperoneVocabulary } from '../access/administration.ts'
import { spentMs } from '../encoding/spent.fixture.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { documentKinds } from './kinds.ts'
import { READ_LIMITS, readDocuments } from './read.ts'
import type { Problem } from './types.ts'

const kinds = documentKinds([chaperoneVocabulary])
const read = (text: string) => readDocuments([{ path: 'infra/a.yaml', text }], kinds)
const said = ({ file, line, column, message, fix }: Problem) => `${file}:${line}:${column}: ${message}${fix === undefined ? '' : ` ${fix}`}`
const problems = (text: string) => read(text).problems.map(said)

test('several documents a file are read in the order they were written', () => {
  const { documents, problems } = read(
    'kind: user\nname: boris\nspec: { roles: [] }\n---\n# a remark\n---\nkind: agent\nname: report-bot\nlabels: { owner: team }\nspec: { owner: boris }\n',
  )
  assert.deepEqual(problems, [])
  assert.deepEqual(
    documents.map(({ kind, name, labels, spec }) => ({ kind, name, labels, spec })),
    [
      { kind: 'user', name: 'boris', labels: {}, spec: { roles: [], traits: {} } },
      { kind: 'agent', name: 'report-bot', labels: { owner: 'team' }, spec: { owner: 'boris', roles: [], traits: {} } },
    ],
  )
})

test('the fix for a value that nearly says it is what to write', () => {
  const server = (spec: string) => problems(`kind: mcp\nname: files\nspec: ${spec}\n`)[0]
  assert.match(server('{ command: node x.mjs }')!, /`command`: .* Write a list: \[node, x\.mjs\]\.$/)
  assert.match(server(`{ command: 'npx -y "a b" --port 8080' }`)!, /Write a list: \[npx, "-y", "a b", "--port", "8080"\]\.$/)
  assert.match(server('{ command: [x], read: /my folder }')!, /Write a list: \[\/my folder\]\.$/)
  assert.match(server('{ command: [x], limits: { memory: 512 } }')!, /`limits\.memory`: .* Write a unit: 512MiB\.$/)
  assert.match(server('{ command: [x], limits: { memory: 536870912 } }')!, /Write a unit: 536870912B\.$/)
  assert.match(server('{ command: [x], limits: { idle: 10 } }')!, /Write a unit: 10m\.$/)
  const [rate] = readDocuments([{ path: 'a.yaml', text: RATE }], documentKinds([mcpVocabulary])).problems.map(said)
  assert.match(rate!, /^a\.yaml:6:23: `allow\[0\]\.limits\.rate`: write how many and in which time, such as 60\/1m /)
})

const RATE = 'kind: role\nname: r\nspec:\n  allow:\n    - mcp: any\n      limits: { rate: 60 }\n'

test('each fault names file, line and column of the very value, and the fix', () => {
  assert.deepEqual(problems('kind: rolle\nname: x\nspec: {}\n'), ['infra/a.yaml:1:7: There is no kind `rolle`. Did you mean `role`?'])
  assert.deepEqual(problems('kind: user\nname: Boris\nspec:\n  rolls: [a]\n'), [
    'infra/a.yaml:2:7: `Boris` cannot be the name of a user. Write lower-case letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit.',
    'infra/a.yaml:4:3: unknown key `rolls`. Did you mean `roles`?',
  ])
  assert.deepEqual(problems('kind: user\nname: boris\nspec:\n  roles:\n    - admin\n    - 7\n'), [
    'infra/a.yaml:6:7: `roles[1]`: Invalid input: expected string, received number. Write it in quotes: "7".',
  ])
  assert.deepEqual(problems('kind: postgres\nname: topsecret\nspec:\n  address: nowhere\n  databases: [a]\n'), [
    'infra/a.yaml:4:12: `address`: write host:port.',
  ])
  assert.deepEqual(problems('kind: postgres\nname: topsecret\nspec:\n  address: db:5432\n'), [
    'infra/a.yaml:4:3: `databases` is missing. Add `databases:` (array).',
  ])
  assert.deepEqual(problems('kind: mcp\nname: files\nspec:\n  command: [a]\n  trusted: yes\n'), [
    'infra/a.yaml:5:12: `trusted`: Invalid input: expected boolean, received string. Write true or false.',
  ])
  assert.deepEqual(problems('kind: mcp\nname: files\nspec:\n  command: [a]\n  env: { TOKEN: { sekret: a } }\n'), [
    'infra/a.yaml:5:17: `env.TOKEN.secret` is missing. Add `secret:` (string).',
    'infra/a.yaml:5:19: `env.TOKEN`: unknown key `sekret`.',
  ])
})

test('faults of roles stand where policy found them', () => {
  const text = 'kind: role\nname: ops\nspec:\n  allow:\n    - chaperone: any\n      verbs: [apply, lokc]\n    - chaperone: any\n      verb: [apply]\n'
  const found = read(text).problems
  assert.deepEqual(
    found.map(({ line, column }) => `${line}:${column}`),
    ['6:22', '8:7'],
  )
})

test('all faults of all files are told at once', () => {
  const { documents, problems } = readDocuments(
    [
      { path: 'a.yaml', text: 'kind: user\nname: [x]\nspec: {}\n' },
      { path: 'b.yaml', text: 'a: [1\nb: }\n' },
      { path: 'c.yaml', text: 'kind: user\nname: dana\nspec: {}\n---\nspec: 3\nlabels: [a]\n' },
    ],
    kinds,
  )
  assert.equal(documents.length, 1)
  assert.deepEqual([...new Set(problems.map((problem) => problem.file))], ['a.yaml', 'b.yaml', 'c.yaml'])
  assert.deepEqual(problems.filter((problem) => problem.file === 'c.yaml').map(said), [
    `c.yaml:5:1: \`kind\` is missing. Known are: ${[...kinds.keys()].join(', ')}.`,
    'c.yaml:5:1: `name` is missing. Add `name:`.',
    'c.yaml:6:9: `labels` must be a mapping of names to text.',
    'c.yaml:5:7: `spec` must be a mapping.',
  ])
})

test('duplicate keys are refused at the second one', () => {
  assert.deepEqual(problems('kind: user\nname: boris\nspec:\n  roles: [a]\n  roles: [b]\n'), [
    'infra/a.yaml:5:3: The key `roles` is there twice. Keep one of them.',
  ])
  assert.deepEqual(problems('kind: user\nname: boris\n"name": dana\nspec: {}\n'), [
    'infra/a.yaml:3:1: The key `name` is there twice. Keep one of them.',
  ])
})

test('the same document twice is refused, with the place of the first', () => {
  const one = 'kind: user\nname: boris\nspec: {}\n'
  const { documents, problems } = readDocuments(
    [
      { path: 'a.yaml', text: one },
      { path: 'b.yaml', text: `---\n${one}` },
    ],
    kinds,
  )
  assert.equal(documents.length, 1)
  assert.deepEqual(problems.map(said), ['b.yaml:3:7: user/boris is there twice; the first is at a.yaml:2. Keep one of them.'])
})

test('YAML surprises stay text: no, on, dates; what has two readings is refused', () => {
  const { documents } = read('kind: user\nname: boris\nspec: { traits: { country: no, light: on, since: 2026-11-22, mode: 0o17, ok: true } }\n')
  assert.deepEqual(documents[0]?.spec.traits, { country: 'no', light: 'on', since: '2026-11-22', mode: 15, ok: true })
  assert.deepEqual(problems('kind: user\nname: boris\nspec: { traits: { mode: 0755 } }\n'), [
    'infra/a.yaml:3:25: `0755` can be read as octal or as decimal. Write it in quotes, or without the leading zero.',
  ])
  assert.match(problems('kind: user\nname: boris\nspec: { traits: { id: 12345678901234567890 } }\n')[0]!, /:3:23: .*Write it in quotes/)
  assert.match(problems('kind: user\nname: boris\nspec: { traits: { id: .nan } }\n')[0]!, /:3:23: .*finite/)
  assert.match(problems('%YAML 1.1\n---\nkind: user\nname: boris\nspec: { traits: { country: no } }\n')[0]!, /:3:1: A %YAML or %TAG directive/)
  assert.match(problems('kind: user\nname: boris\nspec: { traits: { x: !!binary aGk= } }\n')[0]!, /:3:\d+: The tag .* is not supported/)
  assert.match(problems('kind: user\nname: 12\nspec: {}\n')[0]!, /:2:7: `name` must be text. Write it in quotes: "12"\./)
})

test('anchors and aliases work within the limit; a fault in aliased text stands there', () => {
  const { documents, problems: none } = read(
    'kind: user\nname: boris\nspec:\n  roles: &r [analyst]\n---\nkind: user\nname: dana\nspec: { roles: &all [a, b], traits: { teams: *all } }\n',
  )
  assert.deepEqual(none, [])
  assert.deepEqual(documents[1]?.spec, { roles: ['a', 'b'], traits: { teams: ['a', 'b'] } })
  assert.match(problems('kind: user\nname: boris\nspec: { traits: { a: *nowhere } }\n')[0]!, /:3:22: There is no anchor/)
})

test('YAML bombs stop at the budget, quickly, with the place of the fault', () => {
  const laughs = [
    'a: &a [x,x,x,x,x,x,x,x,x]',
    ...'bcdefghi'.split('').map((letter, i) => `${letter}: &${letter} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`),
  ].join('\n')
  const bombs = [
    laughs,
    'a: &a [*a]\n',
    `a: ${'['.repeat(100_000)}`,
    `${'- '.repeat(20_000)}x`,
    `${'{a: '.repeat(200)}1${'}'.repeat(200)}`,
    `a: [${'1,'.repeat(30_000)}1]`,
    Array.from({ length: 50_000 }, (_, i) => `k${i}: 1`)
      .join('\n')
      .slice(0, READ_LIMITS.fileBytes - 1),
    'x'.repeat(READ_LIMITS.fileBytes + 1),
    '---\n'.repeat(5_000),
    'a: "\\0"\n',
    '__proto__: { admin: true }\n',
  ]
  for (const text of bombs) {
    const began = spentMs()
    const { documents, problems } = read(text)
    assert.equal(documents.length, 0)
    if (!text.startsWith('---')) assert.ok(problems.length > 0, text.slice(0, 30))
    for (const problem of problems) assert.ok(problem.line >= 1 && problem.column >= 1)
    assert.ok(spentMs() - began < 5_000, text.slice(0, 30))
  }
  assert.equal(({} as { admin?: boolean }).admin, undefined)
})

test('each bound of a document is its own: aliases, loops, depth, size, keys that are no keys', () => {
  const inTraits = (text: string) => problems(`kind: user\nname: boris\nspec: { traits: ${text} }\n`)[0]
  assert.match(inTraits(`{ a: &x b, b: [${'*x,'.repeat(101)}] }`)!, /aliases more than 100 times/)
  assert.match(inTraits('&x { a: *x }')!, /:3:25: The alias `\*x` contains itself/)
  assert.match(inTraits(`${'['.repeat(40)}${']'.repeat(40)}`)!, /nested deeper than 32/)
  assert.match(inTraits(`[${'1,'.repeat(20_001)}]`)!, /more than 20000 values/)
  assert.match(inTraits('{ __proto__: { admin: true } }')!, /:3:19: This key is not allowed/)
  assert.match(inTraits('{ a: "x\\0" }')!, /NUL/)
})

test('more files or bytes than the limit are refused', () => {
  const many = Array.from({ length: READ_LIMITS.files + 1 }, (_, i) => ({ path: `${i}.yaml`, text: '' }))
  assert.match(readDocuments(many, kinds).problems[0]!.message, /More than 1000 files/)
  const big = Array.from({ length: 9 }, (_, i) => ({ path: `${i}.yaml`, text: `#${'x'.repeat(500_000)}` }))
  assert.match(readDocuments(big, kinds).problems[0]!.message, /larger than 4 MiB/)
})

test('whatever the text, reading ends without throwing and every problem has a place', () => {
  const token = fc.constantFrom(
    'kind: ',
    'user',
    'role',
    '\nname: ',
    'x',
    '\n',
    ' ',
    '- ',
    '[',
    ']',
    '{',
    '}',
    ': ',
    '&a ',
    '*a',
    '"',
    "'",
    '|',
    '>',
    '---\n',
    '...',
    '!!str ',
    '? ',
    '#',
    '\t',
    '0755',
    'spec:\n  ',
    '%YAML 1.1\n',
    '\u0000',
    '\ud800',
    '<<: ',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(token, { maxLength: 40 }).map((tokens) => tokens.join('')),
      ),
      (text) => {
        const { problems } = read(text)
        for (const problem of problems) assert.ok(problem.line >= 1 && problem.column >= 1 && problem.message.length > 0)
      },
    ),
    { numRuns: 500 },
  )
})
