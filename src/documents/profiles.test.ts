import assert from 'node:assert/strict'
import { test } from 'node:test'
import { profileFaults, profileSpec } from '../catalog/profile.ts'
import { profileInWorld } from './profiles.ts'
import { makeWorld } from './world.ts'

const document = (kind: string, name: string) => ({ kind, name, labels: {}, spec: {} })
const world = makeWorld({
  documents: new Map(
    [document('role', 'reader'), document('mcp', 'files'), document('postgres', 'orders')].map((one) => [`${one.kind}/${one.name}`, one]),
  ),
  identities: new Map(),
  sealed: new Set(),
  confirmed: new Set(),
  arrived: new Set(),
})
const told = (limits: object) => [...profileInWorld({ ...document('profile', 'p'), spec: { limits } }, world)]

test('a profile is warned of patterns that nothing fits, and refused for roles that do not exist', () => {
  assert.deepEqual(told({ roles: ['reader'], resources: ['mcp/files', '*/orders', 'chaperone/acme'], tools: ['files/*', '*/read'] }), [])
  const said = told({ roles: ['raeder'], resources: ['mcp/fiels', 'mcp/orders', 'web/*'], tools: ['fiels/read', 'db*/x'] })
  assert.deepEqual(
    said.map(({ path, level, message }) => [path.slice(2).join('.'), level ?? 'error', message]),
    [
      ['roles.0', 'error', 'There is no role `raeder`.'],
      ['resources.0', 'warning', 'There is no resource `mcp/fiels`.'],
      ['resources.1', 'warning', 'There is no resource `mcp/orders`.'],
      ['resources.2', 'warning', 'No resource is called `web/*`, so this leaves nothing.'],
      ['tools.0', 'warning', 'There is no MCP server `fiels`.'],
      ['tools.1', 'warning', 'No MCP server is called `db*`, so this leaves nothing.'],
    ],
  )
  assert.equal(said[1]?.fix, 'Did you mean `mcp/files`?')
})

test('a profile that says nothing that can be meant is refused, part by part', () => {
  const spec = profileSpec.parse({ limits: { resources: ['files'], tools: ['read'], where: 'args.' }, for: '31d' })
  assert.deepEqual(
    profileFaults(spec).map(({ path }) => path.join('.')),
    ['limits.resources', 'limits.tools', 'limits.where', 'for'],
  )
  for (const bad of [{ limits: { tool: ['a/b'] } }, { limits: { effects: ['reads'] } }, { for: 'long' }, { session: 'maybe' }])
    assert.equal(profileSpec.safeParse(bad).success, false, JSON.stringify(bad))
})
