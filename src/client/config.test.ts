import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CLIENTS, configFile, configText, type Entry } from './config.ts'

const entry: Entry = { name: 'files', command: '/usr/bin/node', args: ['/opt/chaperone.js', 'mcp', 'connect', 'files'], env: {} }

test('each client gets the shape that it reads', () => {
  const stdio = { command: entry.command, args: entry.args }
  assert.deepEqual(JSON.parse(configText('claude-code', '', [entry])), { mcpServers: { files: { type: 'stdio', ...stdio } } })
  assert.deepEqual(JSON.parse(configText('vscode', '', [entry])), { servers: { files: { type: 'stdio', ...stdio } } })
  for (const client of ['claude-desktop', 'cursor', 'gemini'] as const)
    assert.deepEqual(JSON.parse(configText(client, '', [entry])), { mcpServers: { files: stdio } })
  assert.equal(
    configText('codex', '', [entry]),
    '[mcp_servers.files]\ncommand = "/usr/bin/node"\nargs = ["/opt/chaperone.js", "mcp", "connect", "files"]\n',
  )
})

test('several servers are written at once, and writing them again changes nothing', () => {
  const entries = [entry, { ...entry, name: 'sql', env: { CHAPERONE_HOME: '/x y' } }]
  for (const client of CLIENTS) {
    const once = configText(client, '', entries)
    assert.equal(configText(client, once, entries), once, client)
  }
})

test("codex: our table is replaced where it stands, with its subtables, and the person's own lines stay", () => {
  const before =
    '# mine\nmodel = "o3"\n\n[mcp_servers.files]\ncommand = "old"\n\n[mcp_servers.files.tools.x]\napproval_mode = "never"\n\n[mcp_servers.other]\ncommand = "keep"\n'
  const after = configText('codex', before, [entry])
  assert.equal(after, `# mine\nmodel = "o3"\n\n${configText('codex', '', [entry])}\n[mcp_servers.other]\ncommand = "keep"\n`)
})

test('a name or value with quotes cannot break out of the file', () => {
  const evil = { ...entry, name: 'a"]\n[evil', args: ['"\n[x]'] }
  assert.equal(
    configText('codex', '', [evil])
      .split('\n')
      .filter((line) => line.startsWith('[')).length,
    1,
  )
  assert.deepEqual(JSON.parse(configText('cursor', '', [evil])).mcpServers[evil.name].args, evil.args)
})

test('the files are where each platform keeps them', () => {
  assert.equal(configFile('claude-desktop', {}, 'darwin', '/Users/b'), '/Users/b/Library/Application Support/Claude/claude_desktop_config.json')
  assert.equal(configFile('vscode', {}, 'linux', '/home/b'), '/home/b/.config/Code/User/mcp.json')
  assert.equal(configFile('codex', { CODEX_HOME: '/c' }, 'linux', '/home/b'), '/c/config.toml')
})
