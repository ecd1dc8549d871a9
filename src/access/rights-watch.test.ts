import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { manualClock } from '../clock.ts'
import { compilePolicy } from '../policy/compile.ts'
import type { Vocabulary } from '../policy/types.ts'
import { makeRightsWatch, RIGHTS_SETTLE_MS } from './rights-watch.ts'
import type { State } from './state.ts'

const vocabulary: Vocabulary = {
  kind: 'mcp',
  fields: z.object({ tools: z.any().optional() }),
  what: ['tools'],
  obligations: {},
  compile: () => () => true,
}
const BORIS = [{ identity: 'usr_boris' }]

const dies = <T extends object>() =>
  new Proxy({} as T, {
    get() {
      throw new Error('the engine is dead')
    },
  })

/** A house whose roles, grants and servers are what the test says. */
function house() {
  const clock = manualClock(Date.UTC(2026, 10, 23, 12))
  const world = {
    roles: [
      { name: 'reader', spec: { allow: [{ mcp: 'any', tools: 'any' }] } },
      { name: 'writer', spec: { allow: [{ mcp: 'files', tools: 'any' }] } },
    ] as { name: string; spec: unknown }[],
    held: ['reader'],
    until: 0,
    dead: false,
    servers: { files: { command: ['one'] } } as Record<string, unknown>,
  }
  const make = () => {
    const { roles, held, until, servers, dead } = structuredClone(world)
    return {
      policy: dead ? dies<State['policy']>() : compilePolicy({ roles, guardrails: [] }, [vocabulary]),
      list: () => Object.entries(servers).map(([name, spec]) => ({ resource: { kind: 'mcp', id: `res_${name}`, name, labels: {} }, spec })),
      links: (_: unknown, now: number) => [
        { identity: { roles: held, traits: {} }, grants: now < until ? [{ role: 'writer', request: 'req_1', until }] : [] },
      ],
      grantsChangeAt: (now: number) => (now < until ? until : Number.POSITIVE_INFINITY),
    } as unknown as State
  }
  let current = make()
  const watch = makeRightsWatch({ kind: 'mcp', state: { current: () => current }, clock })
  const seen: { readonly rules: string; readonly resources: readonly string[] }[] = []
  const stop = watch.watch(({ rulesOf, resources }) => seen.push({ rules: rulesOf(BORIS), resources: [...resources] }))
  const change = (by: (it: typeof world) => unknown) => {
    by(world)
    current = make()
    watch.look()
  }
  return { clock, watch, seen, stop, change, rules: () => watch.rulesOf(BORIS) }
}

test('many changes at once are one; a role, its rules and a server are told, and what changes nothing gives the same text', () => {
  const { clock, seen, change, rules } = house()
  const before = rules()
  change((it) => Object.assign(it.servers, { notes: {} }))
  change((it) => it.held.push('unknown'))
  assert.equal(seen.length, 0)
  clock.advance(RIGHTS_SETTLE_MS)
  assert.deepEqual(seen.splice(0), [{ rules: before, resources: ['res_notes'] }])
  change((it) => it.held.push('writer'))
  clock.advance(RIGHTS_SETTLE_MS)
  const [two] = seen.splice(0)
  assert.notEqual(two!.rules, before)
  assert.deepEqual(two!.resources, [])
  change((it) => it.roles.splice(1, 1, { name: 'writer', spec: { allow: [{ mcp: 'other', tools: 'any' }] } }))
  clock.advance(RIGHTS_SETTLE_MS)
  assert.notEqual(seen.splice(0)[0]!.rules, two!.rules)
})

test('a grant ends at its minute without any epoch, and a role has hours', () => {
  const { clock, seen, change } = house()
  change((it) => Object.assign(it, { until: clock.now() + 600_000 }))
  clock.advance(RIGHTS_SETTLE_MS)
  const given = seen.splice(0)[0]!.rules
  clock.advance(600_000)
  assert.notEqual(seen.splice(0)[0]!.rules, given)
  const spec = { when: { hours: '08:00-13:00', zone: 'UTC' }, allow: [{ mcp: 'any', tools: 'any' }] }
  change((it) => it.roles.splice(0, 1, { name: 'reader', spec }))
  clock.advance(RIGHTS_SETTLE_MS)
  assert.notEqual(seen.splice(0)[0]!.rules, '')
  clock.advance(3_600_000)
  assert.equal(seen.at(-1)!.rules, '', 'the hour is over, and nothing is left')
})

test('nobody listens, and nothing is armed', () => {
  const { clock, seen, stop, change } = house()
  stop()
  change((it) => it.held.push('writer'))
  clock.advance(3_600_000)
  assert.equal(seen.length, 0)
})

test('rule 1: a policy that cannot be asked ends no node: it says that nothing holds, and is watched again when it lives', () => {
  const { clock, seen, change, rules } = house()
  const before = rules()
  change((it) => Object.assign(it, { dead: true }))
  clock.advance(RIGHTS_SETTLE_MS)
  assert.deepEqual(
    seen.map(({ rules }) => rules),
    [''],
  )
  change((it) => Object.assign(it, { dead: false }))
  clock.advance(RIGHTS_SETTLE_MS)
  assert.equal(rules(), before)
})
