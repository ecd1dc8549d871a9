import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { ByName } from './by-name.ts'

test('What has names, and one that has none, is found as in a Map, whatever comes and goes.', () => {
  const step = fc.record({
    what: fc.constantFrom('set', 'set', 'delete', 'clear'),
    name: fc.constantFrom('', 'a', 'b', 'c'),
    value: fc.option(fc.nat()),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const named = new ByName<number | null>()
      const map = new Map<string, number | null>()
      for (const { what, name, value } of steps) {
        if (what === 'set') for (const each of [named, map]) each.set(name, value)
        else if (what === 'delete') for (const each of [named, map]) each.delete(name)
        else for (const each of [named, map]) each.clear()
        assert.equal(named.size, map.size)
        for (const any of ['', 'a', 'b', 'c']) assert.deepEqual([named.has(any), named.get(any)], [map.has(any), map.get(any)])
        assert.deepEqual(new Map(named), map)
        assert.deepEqual([...named.names()].sort(), [...map.keys()].sort())
        assert.equal([...named.values()].length, map.size)
      }
    }),
  )
})

test('What a connection had under a name, or none, is gone with the next young collection.', async () => {
  // 60 MB in small objects, one or two at a time; with a Map nearly all were still there.
  const passing = `
    import v8 from 'node:v8'
    const { Names } = await import(${JSON.stringify(new URL('prepared.ts', import.meta.url).href)})
    const names = new Names()
    const pass = (times) => {
      for (let i = 0; i < times; i++) {
        const name = i % 4 === 0 ? 'C_' + i : ''
        const portal = { bytes: Array.from({ length: 200 }, (_, at) => at + i + 0.5) }
        names.propose(name, portal)
        names.sync()
        names.confirm(name, portal)
        names.clear()
      }
    }
    const old = () => v8.getHeapSpaceStatistics().find((space) => space.space_name === 'old_space').space_used_size
    pass(1000)
    gc(); gc()
    const before = old()
    pass(40_000)
    gc({ type: 'minor' }); gc({ type: 'minor' })
    console.log(old() - before)`
  const flags = ['--expose-gc', '--no-incremental-marking', '--input-type=module', '-e', passing]
  const { stdout } = await promisify(execFile)(process.execPath, flags)
  assert.ok(Number(stdout) < 6_000_000, `${stdout.trim()} bytes stayed`)
})
