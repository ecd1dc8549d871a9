import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECRETS } from './computer.fixture.ts'
import { secretsIn } from './secrets.ts'
import { wishOf } from './wish.ts'

const where = (value: unknown) => secretsIn(value).map((one) => `${one.where}${one.movable ? '' : ' stuck'}`)
const [github, , anthropic] = SECRETS as [string, string, string, string]
const here = { env: { FROM_ENV: 'hunter2hunter2' }, exists: (path: string) => path === '/home/b/notes' }

test('secrets are found by name and by looks, in every place where clients keep them', () => {
  assert.deepEqual(where({ command: 'x', env: { GITHUB_TOKEN: 'abc', MODE: 'fast', PORT: 3000 } }), ['env.GITHUB_TOKEN'])
  assert.deepEqual(where({ command: 'x', env: { WHATEVER: github } }), ['env.WHATEVER'])
  assert.deepEqual(where({ url: 'https://x.example', headers: { Authorization: `Bearer ${anthropic}`, 'X-Team': 'red' } }), ['headers.Authorization'])
  assert.deepEqual(where({ url: 'https://x.example', http_headers: { 'X-Api-Key': 'abcdef' } }), ['headers.X-Api-Key'])
  assert.deepEqual(where({ command: 'x', args: ['--api-key', 'abcdef', '--mode', 'fast'] }), ['args[1] stuck'])
  assert.deepEqual(where({ command: 'x', args: ['--token=abcdef'] }), ['args[0] stuck'])
  assert.deepEqual(where({ command: 'x', args: ['postgres://u:hunter2@db/x'] }), ['args[0] stuck'])
  assert.deepEqual(where({ url: 'https://u:pw@x.example/mcp' }), ['url stuck'])
  assert.deepEqual(where({ serverUrl: 'https://x.example/mcp?api_key=abcdef' }), ['url stuck'])
  assert.deepEqual(where({ command: 'x', envFile: '.env' }), ['envFile .env stuck'])
  assert.deepEqual(where({ url: 'https://x.example', auth: { CLIENT_ID: 'me', CLIENT_SECRET: 'abcdef' } }), ['auth.CLIENT_SECRET stuck'])
  assert.deepEqual(where({ command: { path: 'x', args: [], env: { API_KEY: 'abcdef' } } }), ['env.API_KEY'])
})

test('what stands beside a secret, or looks like the place of one, is none', () => {
  assert.deepEqual(where({ url: 'https://x.example/mcp?x-auth=abcdef' }), ['url stuck'])
  assert.deepEqual(where({ url: 'https://x.example/mcp?team=blue' }), [])
  assert.deepEqual(where({ url: 'https://x.example', oauth: { clientId: 'me', clientSecret: 'abcdef' } }), ['oauth.clientSecret stuck'])
  assert.deepEqual(where({ command: 'x', args: ['--api-key=abcdef', 'readonly'] }), ['args[0] stuck'])
  assert.deepEqual(where({ command: 'x', args: ['--sort=api_key', 'abcdef'] }), [])
  // Only of what speaks HTTP for a client is a header one of the document.
  assert.deepEqual(where({ command: 'curl', args: ['--header', `X-Api-Key: ${github}`] }), ['args[1] stuck'])
  assert.deepEqual(where({ command: 'npx', args: ['mcp-remote', 'https://x.example', '--header', `X-Api-Key: ${github}`] }), ['args[3]'])
  for (const odd of [null, [], 'text', { env: null, headers: [], oauth: null, auth: 'x', command: null }]) assert.deepEqual(where(odd), [])
  for (const value of ['true', 'none', 'xxxx', '***', '<your key>']) assert.deepEqual(where({ command: 'x', env: { API_KEY: value } }), [], value)
})

test('what only names a secret is none', () => {
  for (const value of [`$\{GITHUB_TOKEN}`, `$\{env:GITHUB_TOKEN}`, `$\{input:token}`, '$GITHUB_TOKEN', `Bearer $\{TOKEN}`, ''])
    assert.deepEqual(where({ command: 'x', env: { GITHUB_TOKEN: value } }), [], value)
  assert.deepEqual(where({ command: 'x', args: ['--token', '--verbose'] }), [])
})

test('what a client fills into the words of a command does not come to stand in a document, whatever it is called there', () => {
  const cannot = (value: unknown, env: NodeJS.ProcessEnv = {}) => {
    const is = wishOf('x', value, { ...here, env })
    return 'cannot' in is ? is.cannot : JSON.stringify(is.wish.spec)
  }
  const refused = 'a secret would stand where no document can take it from the vault:'
  const args = ['server', '--auth', `$\{GITHUB_TOKEN}`]
  assert.equal(cannot({ command: 'npx', args }, { GITHUB_TOKEN: 'abc' }), `${refused} GITHUB_TOKEN in args[2]`)
  assert.equal(cannot({ command: 'npx', args: [`X: $\{GITHUB_TOKEN}`], env: { GITHUB_TOKEN: 'abc' } }), `${refused} GITHUB_TOKEN in args[0]`)
  assert.equal(cannot({ command: 'npx', args: [`$\{WHATEVER}`] }, { WHATEVER: github }), `${refused} WHATEVER in args[0]`)
  assert.equal(cannot({ command: 'npx', args: ['--token', `$\{WHATEVER}`] }, { WHATEVER: 'abcdef' }), `${refused} args[1]`)
  assert.equal(cannot({ command: 'npx', args: [`$\{HOME}/notes`] }, { HOME: '/home/b' }), '{"command":["npx","/home/b/notes"]}')
})

test('an entry becomes a document that takes its secrets from the vault', () => {
  assert.deepEqual(wishOf('gh', { command: 'npx', args: ['server'], env: { GITHUB_TOKEN: 'abc', MODE: 'fast' } }, here), {
    wish: { name: 'gh', spec: { command: ['npx', 'server'], env: { GITHUB_TOKEN: { secret: 'mcp/gh/github-token' }, MODE: 'fast' } } },
    secrets: new Map([['mcp/gh/github-token', 'abc']]),
    notes: ['it will run at the Chaperone server, not on this computer'],
  })
  const local = wishOf('x', { command: 'node', args: ['/home/b/notes', '/gone'] }, here)
  assert.deepEqual('wish' in local && local.notes.at(-1), 'it names what is on this computer: /home/b/notes')
  const numbers = wishOf('x', { command: 'x', env: { PORT: 3000, DEBUG: true, NONE: null } }, here)
  assert.deepEqual('wish' in numbers && numbers.wish.spec.env, { PORT: '3000', DEBUG: 'true' })
  const kept = wishOf('x', { url: 'https://x.example/mcp', headers: { Authorization: `Bearer $\{FROM_ENV}` } }, here)
  assert.ok('wish' in kept)
  assert.deepEqual([...kept.secrets.values()], ['Bearer hunter2hunter2'])
})

test('what Codex takes from variables, for headers and for a program, is a secret like another; what is not set here only Codex knows', () => {
  const env = { PAT: 'abc', TEAM: 'blue', API_KEY: 'def' }
  const entry = { url: 'https://x.example/mcp', bearer_token_env_var: 'PAT', env_http_headers: { 'X-Team': 'TEAM' } }
  assert.deepEqual(secretsIn(entry), [])
  const is = wishOf('x', entry, { ...here, env })
  assert.ok('wish' in is)
  assert.deepEqual(is.wish.spec.headers, { 'X-Team': { secret: 'mcp/x/x-team' }, Authorization: { secret: 'mcp/x/authorization' } })
  assert.deepEqual(is.secrets.get('mcp/x/authorization'), 'Bearer abc')
  const program = wishOf('x', { command: 'server', env_vars: ['API_KEY'] }, { ...here, env })
  assert.ok('wish' in program)
  assert.deepEqual(program.wish.spec.env, { API_KEY: { secret: 'mcp/x/api-key' } })
  const unset = wishOf('x', entry, { ...here, env: {} })
  assert.match('cannot' in unset ? unset.cannot : '', /only its client knows \$\{TEAM\}, \$\{PAT\}/)
})

test('mcp-remote is left out, and its headers are kept', () => {
  const bridged = wishOf(
    'x',
    { command: 'npx', args: ['-y', 'mcp-remote@latest', 'https://x.example/sse', '--header', `Authorization:$\{AUTH}`], env: { AUTH: 'Bearer abc' } },
    here,
  )
  assert.ok('wish' in bridged)
  assert.deepEqual(bridged.wish.spec, { url: 'https://x.example/sse', headers: { Authorization: { secret: 'mcp/x/authorization' } } })
  assert.deepEqual([...bridged.secrets], [['mcp/x/authorization', 'Bearer abc']])
  const other = wishOf('x', { command: 'npx', args: ['mcp-remote', 'https://x.example', '--resource', 'urn:x', '--header', 'X-Team: blue'] }, here)
  assert.deepEqual('wish' in other && other.wish.spec.headers, { 'X-Team': 'blue' })
})

test('what cannot be moved as it is, is said so', () => {
  const why = (value: unknown) => {
    const is = wishOf('x', value, here)
    return 'cannot' in is ? is.cannot : ''
  }
  assert.match(why({ command: 'x', args: ['--api-key', 'abcdef'] }), /args\[1\]/)
  assert.match(why({ url: 'https://x.example', headers: { Authorization: `Bearer $\{input:token}` } }), /only its client knows \$\{input:token\}/)
  assert.match(why({ command: 'x', env: { T: `$\{UNSET_HERE}` } }), /UNSET_HERE/)
  assert.match(why({ url: 'https://x.example', headersHelper: '/opt/token.sh' }), /headersHelper/)
  assert.match(why({ disabled: true }), /neither a command nor an address/)
  for (const url of ['unix:///sock', 'http://']) assert.match(why({ url }), /its address is not http/)
  assert.match(why({ url: 'https://x.example/mcp?api_key=abcdef' }), /^a secret stands where no document can take it from the vault: url$/)
})
