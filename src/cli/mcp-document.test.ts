import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import type { McpScan, McpScanned } from '../api/mcp-contract.ts'
import { flagsOfDefinition } from '../catalog/flags.ts'
import { proposeName } from './mcp-name.ts'
import { serverYaml } from './mcp-yaml.ts'

test('a name is proposed from the address or the package', () => {
  const url = (text: string) => proposeName({ url: text })
  assert.equal(url('https://mcp.linear.app/mcp'), 'linear')
  assert.equal(url('https://mcp.example.com/'), 'example')
  assert.equal(url('http://10.0.0.1:3000/notes/mcp'), 'notes')
  assert.equal(url('http://localhost:3000/mcp'), 'server')
  const command = (text: string) => proposeName({ command: text.split(' ') })
  for (const [text, name] of [
    ['npx -y @modelcontextprotocol/server-filesystem /srv', 'filesystem'],
    ['npx @playwright/mcp@latest', 'playwright'],
    ['npx -y @bytebase/dbhub@1.4.0 --demo', 'dbhub'],
    ['uvx mcp-server-git', 'git'],
    ['python -m mcp_server_time', 'time'],
    ['node /opt/notes/dist/index.js', 'notes'],
    ['docker run -i --rm mcp/fetch:1', 'fetch'],
    ['/usr/local/bin/My_Tool', 'my-tool'],
    ['node server.js', 'server'],
  ] as const)
    assert.equal(command(text), name, text)
})

test('every proposed name can be the name of a resource', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 80 }), { minLength: 1, maxLength: 4 }), (command) =>
      assert.match(proposeName({ command }), /^[a-z0-9][a-z0-9._-]{0,62}$/),
    ),
  )
})

describe('the document', () => {
  const scan = (items: readonly McpScanned[], about: McpScan['about'] = { name: 'x' }): McpScan => ({
    version: '2025-11-25',
    about,
    items,
    more: false,
    flags: [],
    warnings: [],
    notices: [],
  })
  const tool = (name: string, more: Partial<McpScanned> = {}): McpScanned => ({
    kind: 'tool',
    name,
    sha256: '',
    description: '',
    effects: ['read'],
    effectsFrom: 'name',
    why: '`read` in its name',
    flags: [],
    ...more,
  })

  test('says beside each tool where its effects come from and what is odd', () => {
    const flags = flagsOfDefinition('tool', { name: 'read', description: 'a\u200bb' })
    const text = serverYaml({ name: 'x', labels: { env: 'prod' }, spec: { url: 'https://x.example/mcp' } }, scan([tool('read', { flags })]))
    assert.equal(
      text,
      `# x speaks MCP 2025-11-25.
# Effects are proposals: what stands here is what you say that each tool does.

kind: mcp
name: x
labels:
  env: prod
spec:
  url: https://x.example/mcp
  tools:
    # !! hidden_characters in description: Characters that a person does not see, but a model reads. a\\u{200b}b
    read: {effects: [read]} # guessed from its name: \`read\` in its name
`,
    )
  })

  test('effects that the asker wrote himself stay', () => {
    const text = serverYaml(
      { name: 'x', spec: { url: 'https://x.example/mcp', tools: { read: { effects: ['admin'] } } } },
      scan([tool('read'), tool('other')]),
    )
    assert.deepEqual(parse(text).spec.tools, { read: { effects: ['admin'] }, other: { effects: ['read'] } })
    assert.match(text, /admin\]\} # as asked for/)
  })

  test('whatever a server calls itself and its tools: the document says what was meant, and nothing in it hides', () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((name) => name.isWellFormed() && !name.includes('\0'))
    const nasty = fc.constantFrom(
      'a\nkind: role',
      '# x',
      'x: y',
      '"',
      "'",
      '\u202ereversed',
      '\u{e0041}',
      '- a',
      '? x',
      '{',
      'true',
      '~',
      '\ttab',
      '*a',
      '!!str',
      '__proto__',
    )
    fc.assert(
      fc.property(fc.uniqueArray(fc.oneof(text, nasty), { minLength: 1, maxLength: 5 }), fc.oneof(text, nasty), (names, words) => {
        const wish = { name: 'x', spec: { command: ['node', words] } }
        const written = serverYaml(
          wish,
          scan(
            names.map((name) => tool(name, { why: words, flags: flagsOfDefinition('tool', { description: words }) })),
            { name: words, version: words },
          ),
        )
        const value = parse(written, { version: '1.2', schema: 'core', stringKeys: true, uniqueKeys: true })
        assert.deepEqual(Object.keys(value), ['kind', 'name', 'spec'])
        assert.deepEqual(value.spec.command, ['node', words])
        const tools = names.filter((name) => name !== '__proto__')
        for (const name of tools) assert.deepEqual(value.spec.tools[name], { effects: ['read'] })
        assert.doesNotMatch(written.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\u{e0000}-\u{e0fff}]/u)
      }),
      { numRuns: 300 },
    )
  })
})
