import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mcpServerSpec } from './mcp-server.ts'

const spec = (more: object) => mcpServerSpec.safeParse({ command: ['server'], ...more })
const problem = (more: object) =>
  spec(more)
    .error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
    .join('\n') ?? ''

test('what a process may cost is read when it is written', () => {
  assert.ok(spec({ limits: { memory: '512MiB', lifetime: '12h', idle: '10m', start: '60s', output: '64 MiB' } }).success)
  for (const name of ['memory', 'output']) assert.match(problem({ limits: { [name]: '512m' } }), new RegExp(`limits.${name}: .*not a size.*MiB`))
  for (const name of ['lifetime', 'idle', 'start'])
    assert.match(problem({ limits: { [name]: '512' } }), new RegExp(`limits.${name}: .*not a duration.*30s`))
  assert.match(problem({ limits: { cpu: '1' } }), /cpu/)
})

test('R90: what would change nothing is refused', () => {
  const remote = { command: undefined, url: 'https://mcp.example.com/' }
  for (const more of [{ limits: { idle: '10m' } }, { share: 'everybody' }, { env: { A: 'b' } }, { network: false }])
    assert.match(problem({ ...remote, ...more }), /does nothing here/)
  assert.match(problem({ headers: { a: 'b' } }), /does nothing here/)
  assert.match(problem({ network: false, isolation: 'user' }), /does nothing here/)
})
