import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { systemClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { ARGUMENTS } from './definitions.ts'
import { makeSeat } from './seat.ts'
import { sessionOf } from './tools.fixture.ts'
import { TOOL_LIMITS } from './types.ts'

const who = sessionOf('boris')
let entered = 0
const seat = makeSeat({
  guard: { judge: () => assert.fail('nothing is judged here') },
  clock: systemClock,
  limits: TOOL_LIMITS,
  kept: { now: 0 },
  enter() {
    entered++
    throw new ChaperoneError('upstream_unavailable', 'There is no database here.')
  },
  resource: { kind: 'postgres', id: 'res', name: 'prod', labels: {} },
  database: 'shop',
  users: () => ({ names: ['reader'], patterns: [], preset: 'reader' }),
  revision: () => 1,
})
const call = (tool: string, args: Record<string, unknown>, lossy: readonly string[] = []) =>
  seat.call({ tool, args, lossy: new Set(lossy), session: who.session, connection: who.connection, signal: new AbortController().signal })

test('arguments of any shape are refused with a reason, or go on; none is a fault of ours', async () => {
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom('select 1', 'public.orders', 'a.b.c', 'x\0y', 'reader', 1, true, null))
  const key = fc.constantFrom('sql', 'params', 'max_rows', 'cursor', 'as', 'schema', 'table', 'analyze', '__proto__', 'other')
  const args = fc.dictionary(key, value, { maxKeys: 5 })
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...Object.keys(ARGUMENTS), 'toString', 'none'), args, async (tool, given) => {
      try {
        assert.equal((await call(tool, given)).isError, true)
      } catch (error) {
        assert.ok(error instanceof ChaperoneError && ['usage', 'not_found'].includes(error.code), String(error))
      }
    }),
  )
})

test('a NUL, which would end a name on the wire, and digits that JSON loses go nowhere', async () => {
  const before = entered
  for (const args of [{ sql: 'select 1\0' }, { sql: 'select 1', as: 'reader\0replication' }]) await assert.rejects(call('query', args), /holds a NUL/)
  await assert.rejects(call('query', { sql: 'select $1', params: [9007199254740992] }, ['/params/0']), /more digits/)
  assert.equal(entered, before)
})
