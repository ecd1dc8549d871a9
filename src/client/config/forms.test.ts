import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse as parseToml } from 'smol-toml'
import { entryFor, isOurs } from './entries.ts'
import { configFile, configText, FORMS, sources } from './forms.ts'
import { assertPublic } from './public.ts'
import { CLIENTS, type Client, type Entry, type ShimEntry } from './types.ts'

const entry: ShimEntry = { name: 'files', command: '/usr/bin/node', args: ['/opt/chaperone.js', 'mcp', 'connect', 'files'], env: {} }
const remote: Entry = { name: 'files', url: 'https://gw.example.com/mcp/files' }
const FILES = CLIENTS.filter((client) => FORMS[client].file)
/** What the parser makes has no prototype. */
const parse = (text: string): unknown => JSON.parse(JSON.stringify(parseToml(text)))
const linux = { home: '/home/b', env: {}, platform: 'linux' } as const

test('each client gets the shape that it reads', () => {
  const stdio = { command: entry.command, args: entry.args }
  const json = (client: Client, one: Entry) => JSON.parse(configText(client, '', [one]))
  assert.deepEqual(json('claude-code', entry), { mcpServers: { files: { type: 'stdio', ...stdio } } })
  assert.deepEqual(json('vscode', entry), { servers: { files: { type: 'stdio', ...stdio } } })
  assert.deepEqual(json('zed', entry), { context_servers: { files: stdio } })
  for (const client of ['claude-desktop', 'cursor', 'gemini', 'windsurf'] as const)
    assert.deepEqual(json(client, entry), { mcpServers: { files: stdio } })
  assert.deepEqual(parse(configText('codex', '', [entry])), { mcp_servers: { files: stdio } })

  const { url } = remote as { url: string }
  assert.deepEqual(json('claude-code', remote), { mcpServers: { files: { type: 'http', url } } })
  assert.deepEqual(json('gemini', remote), { mcpServers: { files: { type: 'http', url } } })
  assert.deepEqual(json('vscode', remote), { servers: { files: { type: 'http', url } } })
  assert.deepEqual(json('cursor', remote), { mcpServers: { files: { url } } })
  assert.deepEqual(json('windsurf', remote), { mcpServers: { files: { serverUrl: url } } })
  assert.deepEqual(json('zed', remote), { context_servers: { files: { url } } })
  assert.deepEqual(parse(configText('codex', '', [remote])), { mcp_servers: { files: { url } } })
})

test('several servers are written at once, and writing them again changes nothing', () => {
  const entries = [entry, { ...entry, name: 'sql', env: { CHAPERONE_HOME: '/x y' } }]
  for (const client of FILES) {
    const once = configText(client, '', entries)
    assert.equal(configText(client, once, entries), once, client)
  }
})

test('what was written is found again as ours, and taken out again', () => {
  for (const client of FILES) {
    for (const way of [{}, { web: 'https://gw.example.com' }, { command: 'chaperone', home: '/h', profile: 'reading' }]) {
      if (client === 'claude-desktop' && 'web' in way) continue
      const { format } = FORMS[client]
      const text = configText(client, '', [entryFor(client, 'files', way), entryFor(client, 'prod/orders', way), entryFor(client, undefined, way)])
      const listed = format.list(text)
      assert.deepEqual(listed.map(({ name }) => name).sort(), ['chaperone', 'files', 'prod_orders'], client)
      assert.ok(
        listed.every(({ value }) => isOurs(value, 'https://gw.example.com')),
        client,
      )
      const empty = listed.reduce((soFar, { name, at }) => format.remove(soFar, name, at), text)
      assert.deepEqual(format.list(empty), [], client)
    }
  }
})

test("somebody else's server is not taken for ours", () => {
  for (const value of [
    { command: 'npx', args: ['-y', 'server-chaperone', 'mcp', 'connect'] },
    { url: 'https://gw.example.com.evil.test/mcp/files' },
    { url: 'https://gw.example.com/mcpx' },
    { command: 'mcp', args: ['connect'] },
    'chaperone mcp connect',
    null,
  ])
    assert.equal(isOurs(value, 'https://gw.example.com'), false, JSON.stringify(value))
})

test("codex: our table is replaced where it stands, with its subtables, and the person's own lines stay", () => {
  const before =
    '# mine\nmodel = "o3"\n\n[mcp_servers.files]\ncommand = "old"\n\n[mcp_servers.files.tools.x]\napproval_mode = "never"\n\n# theirs\n[mcp_servers.other]\ncommand = "keep"\nnote = """\n[elsewhere]\n"""\n'
  const after = configText('codex', before, [entry])
  assert.equal(
    after,
    '# mine\nmodel = "o3"\n\n[mcp_servers.files]\ncommand = "/usr/bin/node"\nargs = [ "/opt/chaperone.js", "mcp", "connect", "files" ]\n\n# theirs\n[mcp_servers.other]\ncommand = "keep"\nnote = """\n[elsewhere]\n"""\n',
  )
})

test('codex: servers that stand in a way that lines do not show are left alone', () => {
  for (const text of [
    'mcp_servers = { files = { command = "x" } }\n',
    '[mcp_servers]\nfiles = { command = "x" }\n',
    'mcp_servers.files.command = "x"\n',
    'note = """\n[mcp_servers.files]\ncommand = "x"\n"""\n[other]\nfiles = 1\n[[mcp_servers.files]]\na = 1\n',
  ]) {
    assert.throws(() => configText('codex', text, [entry]), { code: 'invalid_document' }, text)
  }
  assert.throws(() => configText('codex', 'oops', [entry]), /line 1/)
})

test('a file from Windows keeps its line ends and its byte order mark, in every form', () => {
  const texts: Partial<Record<Client, string>> = {
    codex: '# mine\r\nmodel = "x"\r\n\r\n[mcp_servers.notes]\r\ncommand = "C:\\\\old.exe"\r\n\r\n[other]\r\na = 1\r\n',
    cursor: '\uFEFF{\r\n  // mine\r\n  "mcpServers": {\r\n    "own": { "command": "C:\\\\own.cmd" },\r\n  },\r\n}\r\n',
    zed: '{\r\n  "theme": "One",\r\n  "context_servers": {}\r\n}\r\n',
  }
  for (const [client, text] of Object.entries(texts) as [Client, string][]) {
    const after = configText(client, text, [entryFor(client, 'notes', { command: 'C:\\Program Files\\chaperone.exe' })])
    assert.doesNotMatch(after, /(?<!\r)\n/, client)
    assert.ok(after.startsWith(text.slice(0, 3)))
    assert.equal(configText(client, after, [entryFor(client, 'notes', { command: 'C:\\Program Files\\chaperone.exe' })]), after)
    const [at] = FORMS[client].format.list(after).filter(({ name }) => name === 'notes')
    assert.ok(isOurs(at!.value))
    const gone = FORMS[client].format.remove(after, 'notes')
    assert.doesNotMatch(gone, /(?<!\r)\n|notes/, client)
  }
})

test('a name or value with quotes cannot break out of the file', () => {
  const evil = { ...entry, name: 'a"]\n[evil', args: ['"\n[x]'] }
  assert.deepEqual(parse(configText('codex', '', [evil])), { mcp_servers: { [evil.name]: { command: evil.command, args: evil.args } } })
  assert.deepEqual(JSON.parse(configText('cursor', '', [evil])).mcpServers[evil.name].args, evil.args)
})

test('the files are where each platform keeps them', () => {
  assert.equal(
    configFile('claude-desktop', { home: '/Users/b', env: {}, platform: 'darwin' }),
    '/Users/b/Library/Application Support/Claude/claude_desktop_config.json',
  )
  assert.equal(configFile('vscode', linux), '/home/b/.config/Code/User/mcp.json')
  assert.equal(configFile('zed', linux), '/home/b/.config/zed/settings.json')
  assert.equal(configFile('codex', { ...linux, env: { CODEX_HOME: '/c' } }), '/c/config.toml')
  assert.equal(configFile('chatgpt', linux), undefined)
})

test('servers are looked for in the files of the user and of projects', () => {
  const files = sources(linux, ['/p']).map(({ file }) => file)
  for (const file of ['/home/b/.claude.json', '/p/.mcp.json', '/p/.cursor/mcp.json', '/p/.vscode/mcp.json', '/p/.codex/config.toml'])
    assert.ok(files.includes(file), file)
  const text = '{ "mcpServers": { "a": {} }, "projects": { "/srv/x": { "mcpServers": { "b": {} } }, "/y": {} } }'
  assert.deepEqual(
    FORMS['claude-code'].format.list(text).map(({ at }) => at),
    [
      ['mcpServers', 'a'],
      ['projects', '/srv/x', 'mcpServers', 'b'],
    ],
  )
})

test('links hold the entry as the client reads it', () => {
  const cursor = new URL(FORMS.cursor.link!(remote)!)
  assert.deepEqual(JSON.parse(Buffer.from(cursor.searchParams.get('config')!, 'base64').toString()), { url: 'https://gw.example.com/mcp/files' })
  const code = FORMS.vscode.link!(entry)!
  assert.equal(code.split('?')[0], 'vscode:mcp/install')
  assert.deepEqual(JSON.parse(decodeURIComponent(code.split('?')[1]!)), { name: 'files', type: 'stdio', command: entry.command, args: entry.args })
})

test('what the maker of a client calls itself must be public: that is said first, and of what is not it is refused', () => {
  for (const client of ['chatgpt', 'claude-desktop'] as const) {
    const form = FORMS[client]
    assert.match(form.clicks!(remote)![0]!, /servers call https:\/\/gw\.example\.com\/mcp\/files, not your computer/)
    for (const host of ['gw.example.com', 'gw.example.com:7444', '8.8.8.8', '[2606:4700::1111]'])
      assertPublic(form, { name: 'files', url: `https://${host}/mcp/files` })
    for (const host of [
      'localhost:7444',
      '127.0.0.1:7444',
      '10.1.2.3',
      '[::1]:7444',
      '[fd00::1]',
      'gateway',
      'gw.corp.internal',
      'gw.local.',
      '169.254.169.254',
    ])
      assert.throws(() => assertPublic(form, { name: 'files', url: `https://${host}/mcp/files` }), { code: 'unsupported', fix: /--web-url/ }, host)
  }
  assert.deepEqual(
    CLIENTS.filter((client) => FORMS[client].callsFrom !== undefined),
    ['claude-desktop', 'chatgpt'],
  )
})
