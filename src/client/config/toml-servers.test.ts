import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parse, stringify } from 'smol-toml'
import { tomlServers } from './toml-servers.ts'

const format = tomlServers('mcp_servers')
const word = fc.oneof(fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/), fc.string({ minLength: 1, maxLength: 6 })).filter((key) => key !== '__proto__')
const server = fc.record({ command: fc.string(), args: fc.array(fc.string(), { maxLength: 3 }) }, { requiredKeys: ['command'] })
const whole = fc.record({
  model: fc.string(),
  mcp_servers: fc.dictionary(word, server, { maxKeys: 4 }),
  tools: fc.dictionary(word, fc.record({ on: fc.boolean() }), { maxKeys: 2 }),
})

test('for any file of tables, a server is set, found, and removed, and everything else says the same', () => {
  fc.assert(
    fc.property(whole, word, server, (before, name, value) => {
      const text = `# a remark\n${stringify(before)}`
      const after = format.set(text, name, value)
      assert.ok(after.startsWith('# a remark\n'))
      assert.deepEqual(
        JSON.parse(JSON.stringify(parse(after))),
        JSON.parse(JSON.stringify({ ...before, mcp_servers: { ...before.mcp_servers, [name]: value } })),
      )
      assert.equal(format.set(after, name, value), after)
      const { [name]: _, ...rest } = before.mcp_servers
      assert.deepEqual(
        format
          .list(format.remove(after, name))
          .map((one) => one.name)
          .sort(),
        Object.keys(rest).sort(),
      )
    }),
    { numRuns: 60 },
  )
})
